-- The roles. The owner runs the migrations. openreserve_app has the rights that the routines need
-- and no others. openreserve_reader reads. Routines run with the rights of their caller, because a
-- SECURITY DEFINER procedure cannot end transactions.
--
-- What a role may do with a table stands beside the table. SELECT on every table and EXECUTE on
-- every routine are granted after each migration: see grant_rights in queries/migrations.sql.

DO $$
BEGIN
    CREATE ROLE openreserve_app LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the cluster: a migration of another database created it
END
$$;

DO $$
BEGIN
    CREATE ROLE openreserve_reader LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Settings stand on the role. A pooling proxy refuses them as start-up options, and a SET statement
-- pins the connection or leaks to the next client.
DO $$
DECLARE
    setting text;
BEGIN
    FOREACH setting IN ARRAY ARRAY[
        'openreserve_app IN DATABASE %I SET lock_timeout = ''1s''',
        'openreserve_app IN DATABASE %I SET statement_timeout = ''5s''',
        'openreserve_app IN DATABASE %I SET idle_in_transaction_session_timeout = ''10s''',
        -- The routines only look up rows by key. A plan that was cached while a table was small
        -- must not become a sequential scan of a large one.
        'openreserve_app IN DATABASE %I SET enable_seqscan = off',
        'openreserve_reader IN DATABASE %I SET statement_timeout = ''60s''',
        'openreserve_reader IN DATABASE %I SET default_transaction_read_only = on'
    ] LOOP
        EXECUTE format('ALTER ROLE ' || setting, current_database());
    END LOOP;
END
$$;

-- RDS authenticates a role with IAM tokens if it is a member of rds_iam, and then accepts no
-- password for it. To keep passwords on RDS: REVOKE rds_iam FROM openreserve_app.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
        GRANT rds_iam TO openreserve_app;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA openreserve TO openreserve_app, openreserve_reader;
