-- Returns the units of reservations to their resources, and writes one event for each resource. The
-- caller has moved each reservation out of HELD in this transaction, which only one transaction
-- can do: that makes the return happen once.
--
-- The number of statements does not depend on the number of resources.
CREATE OR REPLACE FUNCTION openreserve.return_stock(tokens uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    resource_ids text[];
BEGIN
    WITH returned AS (
        UPDATE openreserve.reservation_items AS i
           SET held_until = NULL, returned = true
         WHERE i.token = ANY (tokens)
     RETURNING i.resource_id
    )
    SELECT array_agg(DISTINCT r.resource_id) INTO resource_ids FROM returned AS r;

    -- Locked in their order first: the UPDATE below visits the rows in the order of its plan.
    IF cardinality(resource_ids) > 1 THEN
        PERFORM FROM openreserve.resources AS r
          WHERE r.resource_id = ANY (resource_ids)
          ORDER BY r.resource_id
            FOR NO KEY UPDATE;
    END IF;

    -- Summed per resource: a joined UPDATE applies only one row of the join to each target row.
    WITH returned AS (
        SELECT i.resource_id,
               sum(i.quantity) AS quantity,
               array_agg(i.token ORDER BY i.token) AS holds
          FROM openreserve.reservation_items AS i
         WHERE i.token = ANY (tokens)
         GROUP BY i.resource_id
    ), moved AS (
        UPDATE openreserve.resources AS r
           SET available_stock = r.available_stock + b.quantity,
               event_sequence = r.event_sequence + 1,
               updated_at = clock_timestamp()
          FROM returned AS b
         WHERE r.resource_id = b.resource_id
     RETURNING r.resource_id, r.available_stock, r.event_sequence, b.holds
    )
    INSERT INTO openreserve.events (type, resource_id, value, sequence, tokens)
    SELECT 'STOCK_RESTORED', m.resource_id, m.available_stock, m.event_sequence, m.holds
      FROM moved AS m
     ORDER BY m.resource_id;
END
$$;
