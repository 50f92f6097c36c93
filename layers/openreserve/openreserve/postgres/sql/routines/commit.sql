-- Moves a reservation to COMMITTED. The caller has locked it, read the clock after that (moment)
-- and found it HELD, or EXPIRED with its stock taken again (reacquired).
CREATE OR REPLACE FUNCTION openreserve.settle_as_committed(
    wanted uuid, moment timestamptz, reacquired boolean
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE openreserve.reservations AS r
       SET status = 'COMMITTED',
           settled_at = moment,
           reacquired = settle_as_committed.reacquired
     WHERE r.token = wanted AND r.status IN ('HELD', 'EXPIRED');
    UPDATE openreserve.reservation_items AS i
       SET held_until = NULL, returned = false
     WHERE i.token = wanted;
END
$$;


-- Commits a hold before its deadline. Returns the reservation as it is afterwards, no row if it
-- does not exist: a repeat returns the same, and so does a commit that came too late. It does not
-- touch the resource, so that it never waits for a reserve.
CREATE OR REPLACE FUNCTION openreserve.commit(wanted uuid)
RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    hold record := openreserve.lock_hold(wanted);
BEGIN
    IF NOT hold.passed THEN
        PERFORM openreserve.settle_as_committed(wanted, hold.moment, reacquired => false);
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;


-- Commits a hold, also after its deadline if all its units can be taken again. outcome is
--     settled                    the reservation as it is afterwards, in any status
--     unknown_token
--     out_of_stock               shortages; nothing was changed
-- A repeat returns the same.
--
-- A procedure, because it ends transactions to release its locks before it tries again.
CREATE OR REPLACE PROCEDURE openreserve.reacquire(
    IN  wanted uuid, IN reclaim_batch_size integer,
    OUT outcome text, OUT shortages json[], OUT status text, OUT expires_at timestamptz,
    OUT reacquired boolean, OUT resource_ids text[], OUT quantities integer[]
)
LANGUAGE plpgsql AS $$
DECLARE
    hold        openreserve.reservations;
    moment      timestamptz;
    reclaimable text;
BEGIN
    LOOP
        SELECT r.* INTO hold
          FROM openreserve.reservations AS r WHERE r.token = wanted FOR UPDATE;
        IF NOT FOUND THEN
            outcome := 'unknown_token';
            RETURN;
        END IF;
        moment := clock_timestamp();
        SELECT n.resource_ids, n.quantities INTO resource_ids, quantities
          FROM openreserve.reservations_now AS n WHERE n.token = wanted;

        -- A hold past its deadline that is still HELD has its units: it needs no others.
        IF hold.status = 'EXPIRED' THEN
            SELECT f.shortages, f.reclaimable INTO shortages, reclaimable
              FROM openreserve.find_shortages(resource_ids, quantities) AS f;
            IF reclaimable IS NOT NULL THEN
                ROLLBACK;
                PERFORM openreserve.reclaim(reclaimable, reclaim_batch_size);
                COMMIT;
                CONTINUE;
            ELSIF shortages IS NOT NULL THEN
                outcome := 'out_of_stock';
                RETURN;
            ELSIF NOT openreserve.take_stock(resource_ids, quantities, wanted) THEN
                ROLLBACK;  -- another transaction took the units since find_shortages: try again
                CONTINUE;
            END IF;
        END IF;
        IF hold.status IN ('HELD', 'EXPIRED') THEN
            PERFORM openreserve.settle_as_committed(
                wanted, moment,
                reacquired => openreserve.deadline_passed(hold.expires_at, moment));
        END IF;

        outcome := 'settled';
        SELECT n.status, n.expires_at, n.reacquired INTO status, expires_at, reacquired
          FROM openreserve.reservations_now AS n WHERE n.token = wanted;
        RETURN;
    END LOOP;
END
$$;
