-- Closes those of the reservations that are HELD and past their deadline, and returns their stock.
-- Returns their tokens, null if there are none. The caller has locked the reservations, so that
-- the clock is read after the locks. A repeat closes nothing.
CREATE OR REPLACE FUNCTION openreserve.close_expired(tokens uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    closed uuid[];
BEGIN
    WITH expired AS (
        UPDATE openreserve.reservations AS r
           SET status = 'EXPIRED', settled_at = moment
         WHERE r.token = ANY (tokens)
           AND r.settled_at IS NULL  -- not status = 'HELD': see lock_hold
           AND openreserve.deadline_passed(r.expires_at, moment)
     RETURNING r.token
    )
    SELECT array_agg(e.token) INTO closed FROM expired AS e;
    PERFORM openreserve.return_stock(closed);
    RETURN closed;
END
$$;


-- The sweep: closes at most batch_size holds past their deadline, the earliest deadline first; of
-- the wanted tokens, or of all if wanted is null. A repeat closes the next batch, or nothing.
--     lags_ms        how long after its deadline each hold was closed
--     still_held     wanted holds that are live, or locked by another transaction
CREATE OR REPLACE FUNCTION openreserve.expire(
    IN wanted uuid[], IN batch_size integer, OUT lags_ms integer[], OUT still_held uuid[]
)
LANGUAGE plpgsql AS $$
DECLARE
    tokens uuid[];
BEGIN
    -- Two queries, because one plan for both would read the index by deadline for each token. Both
    -- skip locked rows: another transaction is settling them. now() only preselects.
    IF wanted IS NULL THEN
        SELECT array_agg(due.token)
          INTO tokens
          FROM (SELECT r.token
                  FROM openreserve.reservations AS r
                 WHERE r.status = 'HELD' AND openreserve.deadline_passed(r.expires_at, now())
                 ORDER BY r.expires_at
                 LIMIT batch_size
                   FOR UPDATE SKIP LOCKED) AS due;
    ELSE
        SELECT array_agg(due.token)
          INTO tokens
          FROM (SELECT r.token
                  FROM openreserve.reservations AS r
                 WHERE r.token = ANY (wanted)
                   AND r.settled_at IS NULL
                   AND openreserve.deadline_passed(r.expires_at, now())
                 ORDER BY r.expires_at
                 LIMIT batch_size
                   FOR UPDATE SKIP LOCKED) AS due;
    END IF;
    tokens := openreserve.close_expired(tokens);

    -- A lag of more than 24 days does not fit into an integer: that of an engine that was off.
    SELECT coalesce(array_agg(
               least(extract(epoch FROM r.settled_at - r.expires_at) * 1000, 2147483647)), '{}')
      INTO lags_ms
      FROM openreserve.reservations AS r WHERE r.token = ANY (tokens);
    SELECT coalesce(array_agg(r.token), '{}')
      INTO still_held
      FROM openreserve.reservations AS r WHERE r.token = ANY (wanted) AND r.settled_at IS NULL;
END
$$;
