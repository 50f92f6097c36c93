-- Closes holds of a resource whose deadline has passed, because a caller needs its stock now: at
-- most batch_size, the earliest deadline first. Returns how many. A repeat closes the next batch,
-- or nothing.
--
-- The caller ends the transaction afterwards. It locks reservations, which come before resources in
-- the lock order, and resources that need not be in the order of the caller's.
CREATE OR REPLACE FUNCTION openreserve.reclaim(wanted_resource_id text, batch_size integer)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    tokens uuid[];
    count  integer;
BEGIN
    SELECT array_agg(due.token)
      INTO tokens
      FROM (SELECT i.token
              FROM openreserve.reservation_items AS i
             WHERE i.resource_id = wanted_resource_id
               AND openreserve.deadline_passed(i.held_until, moment)
             ORDER BY i.held_until
             LIMIT batch_size) AS due;

    -- Waits for a lock instead of skipping the row: its owner is returning this very stock, and a
    -- caller that skipped it would loop. By token, because two reclaims of one reservation can
    -- start from different resources.
    PERFORM FROM openreserve.reservations AS r
      WHERE r.token = ANY (tokens)
      ORDER BY r.token
        FOR UPDATE;

    count := coalesce(cardinality(openreserve.close_expired(tokens)), 0);
    IF count > 0 THEN
        INSERT INTO openreserve.reclaims (closed) VALUES (count);
    END IF;
    RETURN count;
END
$$;


-- Returns how many holds reclaims have closed since the last call, for the metrics. If the answer
-- is lost, so is the count.
--
-- SECURITY DEFINER, because openreserve_app may delete nothing itself.
CREATE OR REPLACE FUNCTION openreserve.take_reclaims() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (DELETE FROM openreserve.reclaims RETURNING closed)
    SELECT coalesce(sum(closed), 0)::bigint FROM taken
$$;
