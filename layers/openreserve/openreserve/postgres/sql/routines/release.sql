-- Ends a hold and returns its stock: RELEASED before its deadline, EXPIRED from then on. The result
-- is the reservation as it is afterwards, no row if it does not exist. A repeat has the same result
-- and returns no stock.
CREATE OR REPLACE FUNCTION openreserve.release(wanted uuid)
RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    hold record := openreserve.lock_hold(wanted);
BEGIN
    IF hold.passed IS NOT NULL THEN
        UPDATE openreserve.reservations AS r
           SET status = CASE WHEN hold.passed THEN 'EXPIRED'
                             ELSE 'RELEASED' END::openreserve.reservation_status,
               settled_at = hold.moment
         WHERE r.token = wanted AND r.settled_at IS NULL;
        PERFORM openreserve.return_stock(ARRAY[wanted]);
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;
