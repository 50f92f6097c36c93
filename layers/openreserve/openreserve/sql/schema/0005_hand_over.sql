-- Events go on to a queue, and a check of the books goes round.

-- When an event may be handed on, or handed on again by somebody else if whoever claimed it is not
-- heard of any more; null: the queue has it. What was written before there was a queue stays null.
ALTER TABLE openreserve.events ADD COLUMN hand_on_after timestamptz;
ALTER TABLE openreserve.events ALTER COLUMN hand_on_after SET DEFAULT clock_timestamp();

-- For the hand-over. Holds nothing but what waits, so it does not grow with history.
CREATE INDEX events_to_hand_on
    ON openreserve.events (hand_on_after) WHERE hand_on_after IS NOT NULL;

-- Whether the units went back. An item is held while it has a held_until; without one its units are
-- sold or returned, and only this column says which without a look at the reservation.
ALTER TABLE openreserve.reservation_items
    ADD COLUMN returned boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT reservation_items_held_or_returned CHECK (NOT returned OR held_until IS NULL);
UPDATE openreserve.reservation_items AS i
   SET returned = true
  FROM openreserve.reservations AS r
 WHERE r.token = i.token AND r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED');

-- For the check of the books: the units of one resource that are sold, read from the index alone.
CREATE INDEX reservation_items_sold_by_resource
    ON openreserve.reservation_items (resource_id) INCLUDE (quantity)
 WHERE held_until IS NULL AND NOT returned;

-- As in 0003, and marks the items as returned.
CREATE OR REPLACE FUNCTION openreserve.return_stock(tokens uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    resource_ids text[];
    quantities   bigint[];
BEGIN
    -- Summed before they are moved: ten holds of one resource are one change of its row.
    WITH returned AS (
        UPDATE openreserve.reservation_items AS i
           SET held_until = NULL, returned = true
         WHERE i.token = ANY (tokens)
     RETURNING i.resource_id, i.quantity
    ), summed AS (
        SELECT resource_id, sum(quantity) AS quantity FROM returned GROUP BY resource_id
    )
    SELECT array_agg(s.resource_id ORDER BY s.resource_id),
           array_agg(s.quantity ORDER BY s.resource_id)
      INTO resource_ids, quantities
      FROM summed AS s;
    PERFORM openreserve.move_stock(resource_ids, quantities, tokens);
END
$$;

-- A sale after the deadline takes units that had been returned, so that they are no longer. In a
-- trigger, since the procedure that sells them is long and this is all that it would add.
CREATE FUNCTION openreserve.unmark_returned() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE openreserve.reservation_items AS i
       SET returned = false
     WHERE i.token = NEW.token AND i.returned;
    RETURN NULL;
END
$$;
CREATE TRIGGER reservations_unmark_returned
    AFTER UPDATE OF status ON openreserve.reservations
    FOR EACH ROW WHEN (OLD.status = 'EXPIRED' AND NEW.status = 'COMMITTED')
    EXECUTE FUNCTION openreserve.unmark_returned();

-- Up to where the check of the books has come; it begins anew behind the last resource.
CREATE TABLE openreserve.audit (
    resource_id text    NOT NULL DEFAULT '' COLLATE "C",
    only_row    boolean NOT NULL DEFAULT true,
    CONSTRAINT audit_pkey PRIMARY KEY (only_row),
    CONSTRAINT audit_has_one_row CHECK (only_row)
);
INSERT INTO openreserve.audit DEFAULT VALUES;

-- Checks the next resources in turn, at most batch_size of them: whether the counter agrees with
-- the sums of what is held and sold. One statement, hence one snapshot: traffic makes no drift.
CREATE FUNCTION openreserve.check_books(
    IN batch_size integer, OUT checked bigint, OUT drifting json[]
)
LANGUAGE plpgsql AS $$
DECLARE
    behind text := (SELECT a.resource_id FROM openreserve.audit AS a);
    last   text;
BEGIN
    SELECT count(*), max(r.resource_id),
           coalesce(array_agg(json_build_object(
               'resourceId', r.resource_id, 'totalStock', r.total_stock,
               'availableStock', r.available_stock, 'heldStock', h.units, 'committedStock', s.units
           )) FILTER (WHERE r.total_stock <> r.available_stock + h.units + s.units), '{}')
      INTO checked, last, drifting
      FROM (SELECT n.*
              FROM openreserve.resources AS n
             WHERE n.resource_id > behind
             ORDER BY n.resource_id
             LIMIT batch_size) AS r
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(i.quantity), 0) AS units
             FROM openreserve.reservation_items AS i
            WHERE i.resource_id = r.resource_id AND i.held_until IS NOT NULL) AS h
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(i.quantity), 0) AS units
             FROM openreserve.reservation_items AS i
            WHERE i.resource_id = r.resource_id
              AND i.held_until IS NULL AND NOT i.returned) AS s;
    UPDATE openreserve.audit SET resource_id = CASE WHEN checked < batch_size THEN '' ELSE last END;
END
$$;

-- As in 0003, but for lags of more than 24 days, which did not fit: the sweep of an engine that had
-- been off for so long failed.
CREATE OR REPLACE FUNCTION openreserve.expire(
    IN wanted uuid[], IN batch_size integer, OUT lags_ms integer[], OUT still_held uuid[]
)
LANGUAGE plpgsql AS $$
DECLARE
    tokens uuid[];
BEGIN
    -- Skips what is locked: whoever has it is settling it, and there is other work.
    SELECT array_agg(due.token)
      INTO tokens
      FROM (SELECT r.token
              FROM openreserve.reservations AS r
             WHERE r.status = 'HELD' AND r.expires_at <= now()
               AND (wanted IS NULL OR r.token = ANY (wanted))
             ORDER BY r.expires_at
             LIMIT batch_size
               FOR UPDATE SKIP LOCKED) AS due;
    tokens := openreserve.close_expired(tokens);

    SELECT coalesce(array_agg(
               least(extract(epoch FROM r.settled_at - r.expires_at) * 1000, 2147483647)), '{}')
      INTO lags_ms
      FROM openreserve.reservations AS r WHERE r.token = ANY (tokens);
    SELECT coalesce(array_agg(r.token), '{}')
      INTO still_held
      FROM openreserve.reservations AS r WHERE r.token = ANY (wanted) AND r.status = 'HELD';
END
$$;

-- As in 0003, and keeps events that the queue does not have yet, however old they are.
CREATE OR REPLACE FUNCTION openreserve.purge(
    IN key_hours integer, IN reservation_days integer, IN event_days integer, IN batch_size integer,
    OUT keys bigint, OUT reservations bigint, OUT events bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM openreserve.idempotency_keys WHERE idempotency_key = ANY (ARRAY(
        SELECT k.idempotency_key FROM openreserve.idempotency_keys AS k
         WHERE k.created_at < now() - make_interval(hours => greatest(key_hours, 24))
         LIMIT batch_size));
    GET DIAGNOSTICS keys = ROW_COUNT;
    DELETE FROM openreserve.reservations WHERE token = ANY (ARRAY(
        SELECT r.token FROM openreserve.reservations AS r
         WHERE r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED')
           AND r.settled_at < now() - make_interval(days => greatest(reservation_days, 2))
         LIMIT batch_size));
    GET DIAGNOSTICS reservations = ROW_COUNT;
    DELETE FROM openreserve.events AS e USING (
        SELECT o.written_by, o.position FROM openreserve.events AS o
         WHERE o.created_at < now() - make_interval(days => greatest(event_days, 1))
           AND o.hand_on_after IS NULL
         LIMIT batch_size) AS old
     WHERE (e.written_by, e.position) = (old.written_by, old.position);
    GET DIAGNOSTICS events = ROW_COUNT;
END
$$;

GRANT UPDATE (hand_on_after) ON openreserve.events TO openreserve_app;
GRANT UPDATE (returned) ON openreserve.reservation_items TO openreserve_app;
GRANT SELECT ON openreserve.audit TO openreserve_app, openreserve_reader;
GRANT UPDATE (resource_id) ON openreserve.audit TO openreserve_app;
REVOKE EXECUTE ON FUNCTION openreserve.unmark_returned, openreserve.check_books FROM PUBLIC;
GRANT EXECUTE ON FUNCTION openreserve.unmark_returned, openreserve.check_books TO openreserve_app;
