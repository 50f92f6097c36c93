-- Moves the total and the available stock of a resource by some units, and writes the event if it
-- is sold out afterwards. Returns the row after the change; null, and no change, if the resource
-- does not exist, if available_stock would fall below zero or if the total would exceed total_max.
CREATE OR REPLACE FUNCTION openreserve.change_total(wanted text, units bigint, total_max bigint)
RETURNS openreserve.resources
LANGUAGE plpgsql AS $$
DECLARE
    stock openreserve.resources;
BEGIN
    UPDATE openreserve.resources AS r
       SET total_stock = r.total_stock + units,
           available_stock = r.available_stock + units,
           version = r.version + 1,
           event_sequence = r.event_sequence + (r.available_stock + units = 0)::integer,
           updated_at = clock_timestamp()
     WHERE r.resource_id = wanted
       AND r.available_stock + units >= 0
       AND r.total_stock + units <= total_max
 RETURNING r.* INTO stock;
    IF stock.available_stock = 0 THEN
        PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', '{}');
    END IF;
    RETURN stock;
END
$$;


-- Creates a resource, or sets its total: available_stock moves by the difference and reservations
-- are not touched. expected_version is null for any version, 0 for no such resource. outcome is
--     created, changed           also if the total was the same before: then nothing was written
--     version_mismatch           version: the present one, null if there is no such resource
--     below_allocated            allocated: the units that are held or committed
-- A repeat changes nothing; with an expected_version it is refused, as the first call moved it.
--
-- A procedure, because it ends transactions to reclaim in the lock order.
CREATE OR REPLACE PROCEDURE openreserve.set_stock(
    IN  wanted text, IN total bigint, IN expected_version bigint, IN reclaim_batch_size integer,
    OUT outcome text, OUT allocated bigint, OUT version bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    stock openreserve.resources;
BEGIN
    LOOP
        SELECT r.* INTO stock
          FROM openreserve.resources AS r WHERE r.resource_id = wanted FOR NO KEY UPDATE;
        version := stock.version;
        IF expected_version <> coalesce(stock.version, 0) THEN
            outcome := 'version_mismatch';
            RETURN;
        ELSIF stock.resource_id IS NULL THEN
            INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)
            VALUES (wanted, total, total)
                ON CONFLICT ON CONSTRAINT resources_pkey DO NOTHING;
            CONTINUE WHEN NOT FOUND;  -- another transaction has created it since the SELECT
            outcome := 'created';
            version := 1;
            RETURN;
        ELSIF stock.available_stock + total - stock.total_stock >= 0 THEN
            IF total <> stock.total_stock THEN
                PERFORM openreserve.change_total(wanted, total - stock.total_stock, total);
            END IF;
            outcome := 'changed';
            RETURN;
        ELSIF openreserve.deadline_passed((SELECT d.* FROM openreserve.first_deadline(wanted) AS d))
        THEN
            ROLLBACK;  -- reservations are locked before resources
            PERFORM openreserve.reclaim(wanted, reclaim_batch_size);
            COMMIT;
        ELSE
            outcome := 'below_allocated';
            allocated := stock.total_stock - stock.available_stock;
            RETURN;
        END IF;
    END LOOP;
END
$$;


-- Sets many totals one after the other, as set_stock does. For each, outcomes has created, changed,
-- unchanged, or below_allocated with the units in allocated. A repeat changes nothing. If it fails,
-- the totals before the failure are set.
--
-- Each total is a transaction, so that a hot row is locked only for its own change, and so that no
-- order of the rows deadlocks. Only the last transaction waits for the WAL flush, which covers all.
CREATE OR REPLACE PROCEDURE openreserve.set_stock_of_many(
    IN  wanted text[], IN totals bigint[], IN reclaim_batch_size integer,
    OUT outcomes text[], OUT allocated bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
    units   bigint;
    version bigint;
BEGIN
    FOR n IN 1 .. cardinality(wanted) LOOP
        units := NULL;
        -- Without a lock: a repeated import locks no row.
        IF EXISTS (SELECT FROM openreserve.resources AS r
                    WHERE r.resource_id = wanted[n] AND r.total_stock = totals[n]) THEN
            outcome := 'unchanged';
        ELSE
            PERFORM set_config('synchronous_commit', 'off', true);
            CALL openreserve.set_stock(
                wanted[n], totals[n], NULL, reclaim_batch_size, outcome, units, version);
            COMMIT;
        END IF;
        outcomes[n] := outcome;
        allocated[n] := units;
    END LOOP;
    -- Writes something, so that the commit after it waits for the flush. Also if no row was
    -- written: an unchanged total may come from a transaction that is not flushed yet.
    PERFORM pg_logical_emit_message(true, 'openreserve', '');
END
$$;
