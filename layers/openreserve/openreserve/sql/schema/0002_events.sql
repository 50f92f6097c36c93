-- What happened, for whoever wants to know. Written in the transaction of the change: there is no
-- event for a change that was rolled back, and none is missing for one that was not.

CREATE TYPE openreserve.event_type AS ENUM (
    'STOCK_DEPLETED',         -- available_stock reached zero
    'STOCK_RESTORED',         -- a release or an expiry returned units
    'RESERVATION_HELD',       -- this one and those below: only while the trigger below is enabled
    'RESERVATION_COMMITTED',
    'RESERVATION_RELEASED',
    'RESERVATION_EXPIRED',
    'RESERVATION_CANCELLED'
);

CREATE TABLE openreserve.events (
    -- The transaction, then the order within it. A reader that remembered one running number would
    -- miss events whose number was taken early and committed late.
    written_by  xid8           NOT NULL DEFAULT pg_current_xact_id(),
    position    bigint         NOT NULL GENERATED ALWAYS AS IDENTITY,
    created_at  timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    value       bigint         NOT NULL,  -- units that are available; or of the reservation's item
    sequence    bigint,                   -- counts the stock events of the resource, without a gap
    event_id    uuid           NOT NULL DEFAULT gen_random_uuid(),
    type        openreserve.event_type NOT NULL,
    resource_id text           NOT NULL COLLATE "C",
    tokens      uuid[]         NOT NULL,

    CONSTRAINT events_pkey PRIMARY KEY (written_by, position),
    CONSTRAINT events_one_per_sequence UNIQUE (resource_id, sequence),
    CONSTRAINT events_sequence_counts_stock_events
        CHECK ((sequence IS NOT NULL) = (type IN ('STOCK_DEPLETED', 'STOCK_RESTORED')))
);

-- For the purge. Written in the order of their time.
CREATE INDEX events_by_age ON openreserve.events USING brin (created_at);

-- Writes the event of a change of a resource's stock. The row is locked and has counted it. Of the
-- tokens, those that have an item of this resource are concerned.
CREATE FUNCTION openreserve.write_stock_event(
    stock openreserve.resources, type openreserve.event_type, tokens uuid[]
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO openreserve.events (type, resource_id, value, sequence, tokens)
    SELECT type, stock.resource_id, stock.available_stock, stock.event_sequence,
           ARRAY(SELECT i.token
                   FROM openreserve.reservation_items AS i
                  WHERE i.token = ANY (tokens) AND i.resource_id = stock.resource_id
                  ORDER BY i.token)
$$;

-- Writes an event for each item of a reservation that has reached another status.
CREATE FUNCTION openreserve.write_reservation_events() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO openreserve.events (type, resource_id, value, tokens)
    SELECT ('RESERVATION_' || NEW.status)::openreserve.event_type,
           i.resource_id, i.quantity, ARRAY[NEW.token]
      FROM openreserve.reservation_items AS i
     WHERE i.token = NEW.token
     ORDER BY i.resource_id;
    RETURN NULL;
END
$$;

-- Disabled, since few want an event for each hold and everybody would pay for it. The migrate
-- function enables it where the stage's parameter says so.
CREATE TRIGGER reservations_write_events
    AFTER INSERT OR UPDATE OF status ON openreserve.reservations
    FOR EACH ROW EXECUTE FUNCTION openreserve.write_reservation_events();
ALTER TABLE openreserve.reservations DISABLE TRIGGER reservations_write_events;
