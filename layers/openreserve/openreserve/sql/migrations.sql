-- lock: Two deployments at once apply one after the other. Within the transaction, so that a lost
-- connection gives it back. From then on no lock is waited for long: buyers would queue behind it.
SELECT pg_advisory_xact_lock(hashtext('openreserve.migrations'));
SET LOCAL lock_timeout = '3s';

-- create_schema: Repeated by every run; only the first finds something to do.
CREATE SCHEMA IF NOT EXISTS openreserve;

-- create_table: The record of what was applied, with its hash: an applied file must never change.
CREATE TABLE IF NOT EXISTS openreserve.migrations (
    number     integer     NOT NULL,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number)
);

-- list_applied: Read after the lock, so that the loser of a race sees what the winner did.
SELECT number, name, sha256 FROM openreserve.migrations ORDER BY number;

-- record: In the transaction that applied it.
INSERT INTO openreserve.migrations (number, name, sha256)
VALUES (%(number)s, %(name)s, %(sha256)s);

-- enable_reservation_events: With each deployment, since a stage may change its mind. Only if it
-- did, since that waits for everybody who is writing a reservation, and they wait for it.
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
