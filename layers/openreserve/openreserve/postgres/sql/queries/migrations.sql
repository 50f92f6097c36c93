-- lock: Concurrent migrations run one after the other. In the transaction, so that a lost
-- connection releases it. From then on no lock is waited for long, because later writers queue too.
SELECT pg_advisory_xact_lock(hashtext('openreserve.migrations'));
SET LOCAL lock_timeout = '3s';

-- create_records: What was applied, with its hash. Each run repeats it; the first creates them.
CREATE SCHEMA IF NOT EXISTS openreserve;
CREATE TABLE IF NOT EXISTS openreserve.migrations (
    number     integer     NOT NULL,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number)
);
CREATE TABLE IF NOT EXISTS openreserve.routines (
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT routines_pkey PRIMARY KEY (name)
);

-- list_migrations: Read after the lock, so that a concurrent run's work is seen.
SELECT number, sha256 FROM openreserve.migrations ORDER BY number;

-- list_routines: Likewise.
SELECT name, sha256 FROM openreserve.routines ORDER BY name;

-- record_migration: In the transaction that applied it.
INSERT INTO openreserve.migrations (number, name, sha256)
VALUES (%(number)s, %(name)s, %(sha256)s);

-- record_routine: In the transaction that applied it.
INSERT INTO openreserve.routines (name, sha256)
VALUES (%(name)s, %(sha256)s)
    ON CONFLICT ON CONSTRAINT routines_pkey
    DO UPDATE SET sha256 = excluded.sha256, applied_at = clock_timestamp();

-- grant_rights: After the files, for all that they made. By default Postgres lets PUBLIC execute a
-- new routine.
GRANT SELECT ON ALL TABLES IN SCHEMA openreserve TO openreserve_app, openreserve_reader;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA openreserve FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA openreserve TO openreserve_app;

-- enable_reservation_events: In each run, because a deployment can change the setting. Only if it
-- differs, because ALTER TABLE waits for all writers of reservations, and later ones for it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger
                WHERE tgrelid = 'openreserve.reservations'::regclass
                  AND tgname = 'reservations_write_events' AND tgenabled = 'D') THEN
        ALTER TABLE openreserve.reservations ENABLE TRIGGER reservations_write_events;
    END IF;
END $$;

-- disable_reservation_events: Likewise.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger
                WHERE tgrelid = 'openreserve.reservations'::regclass
                  AND tgname = 'reservations_write_events' AND tgenabled <> 'D') THEN
        ALTER TABLE openreserve.reservations DISABLE TRIGGER reservations_write_events;
    END IF;
END $$;

-- adopt_nine_files: Brings the tables of the nine files from before 0.1.0 to those of 0001 to 0004.
-- Rows stay as they are: the constraint on when a hold was settled is for new ones. The files of
-- routines/ then create the views and routines.
DO $$
BEGIN
    DROP VIEW openreserve.reservations_now, openreserve.resources_now,
              openreserve.drift, openreserve.wrong_marks CASCADE;
    EXECUTE (SELECT string_agg(format('DROP ROUTINE %s CASCADE', oid::regprocedure), ';')
               FROM pg_proc WHERE pronamespace = 'openreserve'::regnamespace);
END $$;
ALTER TABLE openreserve.resources
    ADD CONSTRAINT resources_version_positive CHECK (version > 0),
    ADD CONSTRAINT resources_event_sequence_not_negative CHECK (event_sequence >= 0);
ALTER TABLE openreserve.reservations
    ADD CONSTRAINT reservations_settled_before_the_deadline
        CHECK (status NOT IN ('COMMITTED', 'RELEASED') OR settled_at < expires_at OR reacquired)
        NOT VALID;
ALTER TABLE openreserve.events
    ADD CONSTRAINT events_value_not_negative CHECK (value >= 0);
DELETE FROM openreserve.migrations;
