-- A batch takes time in proportion to its size. Two things took the square of it: 500 holds of 100
-- resources took half a second, and of 10,000 that ended together, some were seconds late.
--
-- One was the index of what is held, by deadline: it has the token as well, and while statistics say
-- that little is held, the planner reads all of it for each token. So what is looked up by token is
-- no longer asked to be HELD, which that index knows, but not to be settled, which means the same
-- (reservations_held_until_settled) and which only the row knows.

-- As in 0003, but by token.
CREATE OR REPLACE FUNCTION openreserve.close_expired(tokens uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    closed uuid[];
BEGIN
    WITH expired AS (
        UPDATE openreserve.reservations AS r
           SET status = 'EXPIRED', settled_at = moment
         WHERE r.token = ANY (tokens) AND r.settled_at IS NULL AND r.expires_at <= moment
     RETURNING r.token
    )
    SELECT array_agg(e.token) INTO closed FROM expired AS e;
    PERFORM openreserve.return_stock(closed);
    RETURN closed;
END
$$;

-- As in 0005, but by token where the tokens are known.
CREATE OR REPLACE FUNCTION openreserve.expire(
    IN wanted uuid[], IN batch_size integer, OUT lags_ms integer[], OUT still_held uuid[]
)
LANGUAGE plpgsql AS $$
DECLARE
    tokens uuid[];
BEGIN
    -- Both skip what is locked: whoever has it is settling it, and there is other work.
    IF wanted IS NULL THEN
        SELECT array_agg(due.token)
          INTO tokens
          FROM (SELECT r.token
                  FROM openreserve.reservations AS r
                 WHERE r.status = 'HELD' AND r.expires_at <= now()
                 ORDER BY r.expires_at
                 LIMIT batch_size
                   FOR UPDATE SKIP LOCKED) AS due;
    ELSE
        SELECT array_agg(due.token)
          INTO tokens
          FROM (SELECT r.token
                  FROM openreserve.reservations AS r
                 WHERE r.token = ANY (wanted) AND r.settled_at IS NULL AND r.expires_at <= now()
                 ORDER BY r.expires_at
                 LIMIT batch_size
                   FOR UPDATE SKIP LOCKED) AS due;
    END IF;
    tokens := openreserve.close_expired(tokens);

    SELECT coalesce(array_agg(
               least(extract(epoch FROM r.settled_at - r.expires_at) * 1000, 2147483647)), '{}')
      INTO lags_ms
      FROM openreserve.reservations AS r WHERE r.token = ANY (tokens);
    SELECT coalesce(array_agg(r.token), '{}')
      INTO still_held
      FROM openreserve.reservations AS r WHERE r.token = ANY (wanted) AND r.settled_at IS NULL;
END
$$;

-- As in 0003, but by token.
CREATE OR REPLACE FUNCTION openreserve.commit(wanted uuid)
RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz;
BEGIN
    SELECT r.expires_at INTO deadline
      FROM openreserve.reservations AS r
     WHERE r.token = wanted AND r.settled_at IS NULL
       FOR UPDATE;
    -- The clock is read now that the lock is held. A clock read before the wait for it would let
    -- a hold be committed after its deadline.
    IF deadline > clock_timestamp() THEN
        UPDATE openreserve.reservations AS r
           SET status = 'COMMITTED', settled_at = clock_timestamp()
         WHERE r.token = wanted AND r.settled_at IS NULL;
        UPDATE openreserve.reservation_items AS i SET held_until = NULL WHERE i.token = wanted;
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;

-- As in 0003, but by token.
CREATE OR REPLACE FUNCTION openreserve.release(wanted uuid)
RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz;
BEGIN
    SELECT r.expires_at INTO deadline
      FROM openreserve.reservations AS r
     WHERE r.token = wanted AND r.settled_at IS NULL
       FOR UPDATE;
    IF FOUND THEN
        UPDATE openreserve.reservations AS r
           SET status = CASE WHEN deadline > clock_timestamp()
                             THEN 'RELEASED' ELSE 'EXPIRED' END::openreserve.reservation_status,
               settled_at = clock_timestamp()
         WHERE r.token = wanted AND r.settled_at IS NULL;
        PERFORM openreserve.return_stock(ARRAY[wanted]);
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;

-- The other was the event of each resource, for whose tokens all those of the batch were looked at.
-- As in 0005, and in as many statements for a hundred resources as for one.
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

    -- In their order, since the UPDATE below takes them in whatever order its plan visits the rows.
    IF cardinality(resource_ids) > 1 THEN
        PERFORM FROM openreserve.resources AS r
          WHERE r.resource_id = ANY (resource_ids)
          ORDER BY r.resource_id
            FOR NO KEY UPDATE;
    END IF;

    -- Summed before they are moved: ten holds of one resource are one change of its row.
    WITH back AS (
        SELECT i.resource_id, sum(i.quantity) AS units, array_agg(i.token ORDER BY i.token) AS holds
          FROM openreserve.reservation_items AS i
         WHERE i.token = ANY (tokens)
         GROUP BY i.resource_id
    ), moved AS (
        UPDATE openreserve.resources AS r
           SET available_stock = r.available_stock + b.units,
               event_sequence = r.event_sequence + 1,
               updated_at = clock_timestamp()
          FROM back AS b
         WHERE r.resource_id = b.resource_id
     RETURNING r.resource_id, r.available_stock, r.event_sequence, b.holds
    )
    INSERT INTO openreserve.events (type, resource_id, value, sequence, tokens)
    SELECT 'STOCK_RESTORED', m.resource_id, m.available_stock, m.event_sequence, m.holds
      FROM moved AS m
     ORDER BY m.resource_id;
END
$$;

-- As in 0002, in the language that keeps its plan: one in SQL is planned anew for every event.
CREATE OR REPLACE FUNCTION openreserve.write_stock_event(
    stock openreserve.resources, type openreserve.event_type, tokens uuid[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO openreserve.events (type, resource_id, value, sequence, tokens)
    SELECT write_stock_event.type, stock.resource_id, stock.available_stock, stock.event_sequence,
           ARRAY(SELECT i.token
                   FROM openreserve.reservation_items AS i
                  WHERE i.token = ANY (write_stock_event.tokens)
                    AND i.resource_id = stock.resource_id
                  ORDER BY i.token);
END
$$;

-- The hand-over's two statements. Neither waits for the disk, which who closes holds beside them
-- waits for: what a crash of the server takes back is handed on once more. Said for the transaction,
-- in here, where a proxy sees no SET that would tie the server's connection to its client.
--
-- Claimed for a while, not locked: no lock is held while the queue is spoken to. Who dies in between
-- leaves the claim to run out, and the events are handed on once more.
CREATE FUNCTION openreserve.claim_events(claim_seconds integer, batch_size integer)
RETURNS SETOF openreserve.events
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    UPDATE openreserve.events AS e
       SET hand_on_after = clock_timestamp() + make_interval(secs => claim_seconds)
      FROM (SELECT o.written_by, o.position
              FROM openreserve.events AS o
             WHERE o.hand_on_after <= now()
             ORDER BY o.hand_on_after
             LIMIT batch_size
               FOR UPDATE SKIP LOCKED) AS waiting
     WHERE (e.written_by, e.position) = (waiting.written_by, waiting.position)
 RETURNING e.*;
END
$$;

CREATE FUNCTION openreserve.mark_handed_on(written_by xid8[], positions bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE openreserve.events AS e
       SET hand_on_after = NULL
      FROM unnest(mark_handed_on.written_by, positions) AS taken (written_by, position)
     WHERE (e.written_by, e.position) = (taken.written_by, taken.position);
END
$$;

REVOKE EXECUTE ON FUNCTION openreserve.claim_events, openreserve.mark_handed_on FROM PUBLIC;
GRANT EXECUTE ON FUNCTION openreserve.claim_events, openreserve.mark_handed_on TO openreserve_app;
