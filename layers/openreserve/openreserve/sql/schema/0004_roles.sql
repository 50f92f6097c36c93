-- Who may do what. The owner, who runs this, migrates; openreserve_app can do what the verbs do and
-- nothing else; openreserve_reader looks. The verbs run with the rights of their caller, since a
-- procedure that ends transactions cannot have its owner's.

DO $$
BEGIN
    CREATE ROLE openreserve_app LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- a role belongs to the cluster: another database of it has it already
END
$$;

DO $$
BEGIN
    CREATE ROLE openreserve_reader LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Settings stand on the role: as options of a connection, a pooling proxy refuses them; as SET
-- statements, it leaks them to others or stops pooling.
DO $$
DECLARE
    setting text;
BEGIN
    FOREACH setting IN ARRAY ARRAY[
        'openreserve_app IN DATABASE %I SET lock_timeout = ''1s''',
        'openreserve_app IN DATABASE %I SET statement_timeout = ''5s''',
        'openreserve_app IN DATABASE %I SET idle_in_transaction_session_timeout = ''10s''',
        -- All it does is look-ups by key. A plan made while a table was small must not become a
        -- scan of it when it has grown.
        'openreserve_app IN DATABASE %I SET enable_seqscan = off',
        'openreserve_reader IN DATABASE %I SET statement_timeout = ''60s''',
        'openreserve_reader IN DATABASE %I SET default_transaction_read_only = on'
    ] LOOP
        EXECUTE format('ALTER ROLE ' || setting, current_database());
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA openreserve TO openreserve_app, openreserve_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA openreserve TO openreserve_app, openreserve_reader;

GRANT INSERT ON openreserve.resources,
                openreserve.reservations,
                openreserve.reservation_items,
                openreserve.idempotency_keys,
                openreserve.events TO openreserve_app;
GRANT UPDATE (total_stock, available_stock, version, event_sequence, updated_at)
   ON openreserve.resources TO openreserve_app;
GRANT UPDATE (status, expires_at, settled_at, reacquired)
   ON openreserve.reservations TO openreserve_app;
GRANT UPDATE (held_until) ON openreserve.reservation_items TO openreserve_app;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA openreserve FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA openreserve TO openreserve_app;
