-- lock: Two deployments at once apply one after the other. Within the transaction, so that a lost
-- connection gives it back.
SELECT pg_advisory_xact_lock(hashtext('openreserve.migrations'));

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

-- enable_reservation_events: With each deployment, since a stage may change its mind.
ALTER TABLE openreserve.reservations ENABLE TRIGGER reservations_write_events;

-- disable_reservation_events: Likewise.
ALTER TABLE openreserve.reservations DISABLE TRIGGER reservations_write_events;
