-- Deletes at most batch_size rows of each kind that are past their retention, and returns how many:
-- idempotency keys, reservations whose stock was returned, published events. COMMITTED reservations
-- are kept. A repeat deletes the next batch, or nothing.
--
-- SECURITY DEFINER, because openreserve_app may delete nothing itself. The minima of the retention
-- hold for any arguments.
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
