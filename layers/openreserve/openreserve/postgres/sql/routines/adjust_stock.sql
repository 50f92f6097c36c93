-- Moves a total by a difference, once per key, and keeps the reason. outcome is
--     adjusted, replayed         total and made_at, as first answered
--     key_reused                 the key belongs to another adjustment
--     unknown_resource
--     total_out_of_range
--     below_allocated            total, and allocated: the units that are held or committed
-- A repeat with the same key moves nothing and returns the first answer. Every outcome but adjusted
-- has written nothing, except that holds past their deadline may have been closed.
CREATE OR REPLACE PROCEDURE openreserve.adjust_stock(
    IN  key text, IN wanted text, IN units bigint, IN why text,
    IN  total_max bigint, IN reclaim_batch_size integer,
    OUT outcome text, OUT total bigint, OUT made_at timestamptz, OUT allocated bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    known          openreserve.adjustments;
    stock          openreserve.resources;
    first_deadline timestamptz;
BEGIN
    LOOP
        SELECT a.* INTO known FROM openreserve.adjustments AS a WHERE a.idempotency_key = key;
        IF FOUND THEN
            outcome := CASE WHEN (known.resource_id, known.difference, known.reason)
                               = (wanted, units, why) THEN 'replayed' ELSE 'key_reused' END;
            total := known.total_stock;
            made_at := known.created_at;
            RETURN;
        END IF;

        stock := openreserve.change_total(wanted, units, total_max);
        IF stock.resource_id IS NOT NULL THEN
            -- The key after the resource, unlike in reserve: no transaction that has a key of this
            -- table waits for a resource, so that there is no deadlock.
            INSERT INTO openreserve.adjustments AS a
                   (idempotency_key, resource_id, difference, reason, total_stock)
            VALUES (key, wanted, units, why, stock.total_stock)
                ON CONFLICT ON CONSTRAINT adjustments_pkey DO NOTHING
         RETURNING a.created_at INTO made_at;
            IF NOT FOUND THEN
                ROLLBACK;  -- a twin of this request has committed: its answer is this one's
                CONTINUE;
            END IF;
            outcome := 'adjusted';
            total := stock.total_stock;
            RETURN;
        END IF;

        -- Both in one snapshot: if it has too little stock and nothing to reclaim, the refusal is
        -- true.
        SELECT r.total_stock, r.available_stock, d.first_deadline
          INTO stock.total_stock, stock.available_stock, first_deadline
          FROM openreserve.resources AS r
         CROSS JOIN LATERAL openreserve.first_deadline(r.resource_id) AS d (first_deadline)
         WHERE r.resource_id = wanted;
        IF NOT FOUND THEN
            outcome := 'unknown_resource';
            RETURN;
        ELSIF stock.total_stock + units > total_max THEN
            outcome := 'total_out_of_range';
            RETURN;
        ELSIF stock.available_stock + units >= 0 THEN
            NULL;  -- units were returned since change_total: try again
        ELSIF openreserve.deadline_passed(first_deadline) THEN
            PERFORM openreserve.reclaim(wanted, reclaim_batch_size);
            COMMIT;
        ELSE
            outcome := 'below_allocated';
            total := stock.total_stock + units;
            allocated := stock.total_stock - stock.available_stock;
            RETURN;
        END IF;
    END LOOP;
END
$$;
