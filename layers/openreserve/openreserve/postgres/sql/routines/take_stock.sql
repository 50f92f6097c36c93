-- Takes quantities of resources for a reservation. The resource_ids are sorted: the lock order.
-- Returns false if a resource has too little stock; the caller then rolls back.
--
-- Called last, so that the hot row is locked for as short as possible.
CREATE OR REPLACE FUNCTION openreserve.take_stock(
    resource_ids text[], quantities integer[], token uuid
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    stock openreserve.resources;
BEGIN
    -- Row by row: a joined UPDATE locks the rows in the order of its plan.
    FOR n IN 1 .. cardinality(resource_ids) LOOP
        UPDATE openreserve.resources AS r
           SET available_stock = r.available_stock - quantities[n],
               event_sequence = r.event_sequence + (r.available_stock = quantities[n])::integer,
               updated_at = clock_timestamp()
         WHERE r.resource_id = resource_ids[n]
           AND r.available_stock >= quantities[n]  -- the guard
     RETURNING r.* INTO stock;
        IF NOT FOUND THEN
            RETURN false;
        ELSIF stock.available_stock = 0 THEN
            PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', ARRAY[token]);
        END IF;
    END LOOP;
    RETURN true;
END
$$;


-- Why these quantities cannot be taken, read without a lock: a reserve of a sold-out resource costs
-- two index lookups.
--     shortages      null, or {resourceId, requested, available} of each resource with too little
--     unknown_id     the first resource_id that does not exist
--     reclaimable    a resource with too little stock and a hold whose deadline has passed
--     short_until    the earliest deadline of a live hold on a resource with too little stock
CREATE OR REPLACE FUNCTION openreserve.find_shortages(
    IN resource_ids text[], IN quantities integer[],
    OUT shortages json[], OUT unknown_id text, OUT reclaimable text, OUT short_until timestamptz
)
LANGUAGE plpgsql AS $$
DECLARE
    available      bigint;
    first_deadline timestamptz;
BEGIN
    FOR n IN 1 .. cardinality(resource_ids) LOOP
        -- Both in one snapshot: if it has too little stock and nothing to reclaim, the refusal is
        -- true.
        SELECT r.available_stock,
               CASE WHEN r.available_stock < quantities[n] THEN
                    (SELECT d.* FROM openreserve.first_deadline(r.resource_id) AS d)
               END
          INTO available, first_deadline
          FROM openreserve.resources AS r
         WHERE r.resource_id = resource_ids[n];

        IF NOT FOUND THEN
            unknown_id := coalesce(unknown_id, resource_ids[n]);
        ELSIF available < quantities[n] THEN
            IF openreserve.deadline_passed(first_deadline) THEN
                reclaimable := resource_ids[n];
            END IF;
            short_until := least(short_until, first_deadline);
            shortages := shortages || json_build_object(
                'resourceId', resource_ids[n], 'requested', quantities[n], 'available', available);
        END IF;
    END LOOP;
END
$$;
