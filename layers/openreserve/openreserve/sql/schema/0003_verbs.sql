-- The verbs. Each is one call: the decision needs several statements, and a round trip between
-- them would be spent under a row lock.
--
-- Locks are taken in one order by everything here, so that no two calls wait in a circle:
-- reservations first, by token; then an idempotency key; then resources, by resource_id.

-- Moves stock by the deltas, which come in the order of resource_ids, on behalf of reservations.
-- False, when one would fall below zero; the caller rolls back.
CREATE FUNCTION openreserve.move_stock(resource_ids text[], deltas bigint[], tokens uuid[])
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    stock openreserve.resources;
BEGIN
    -- Row by row, since a joined UPDATE locks in whatever order its plan visits the rows.
    FOR n IN 1 .. coalesce(cardinality(resource_ids), 0) LOOP
        UPDATE openreserve.resources AS r
           SET available_stock = r.available_stock + deltas[n],
               event_sequence = r.event_sequence
                   + (deltas[n] > 0 OR r.available_stock + deltas[n] = 0)::integer,
               updated_at = clock_timestamp()
         WHERE r.resource_id = resource_ids[n]
           AND r.available_stock + deltas[n] >= 0  -- the guard
     RETURNING r.* INTO stock;
        IF NOT FOUND THEN
            RETURN false;
        ELSIF deltas[n] > 0 THEN
            PERFORM openreserve.write_stock_event(stock, 'STOCK_RESTORED', tokens);
        ELSIF stock.available_stock = 0 THEN
            PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', tokens);
        END IF;
    END LOOP;
    RETURN true;
END
$$;

-- Gives the units of reservations that were just closed back to their resources. The caller has
-- moved each of them out of HELD in this transaction, which only one caller can do.
CREATE FUNCTION openreserve.return_stock(tokens uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    resource_ids text[];
    quantities   bigint[];
BEGIN
    -- Summed before they are moved: ten holds of one resource are one change of its row.
    WITH returned AS (
        UPDATE openreserve.reservation_items AS i
           SET held_until = NULL
         WHERE i.token = ANY (tokens)
     RETURNING i.resource_id, i.quantity
    ), summed AS (
        SELECT resource_id, sum(quantity) AS quantity FROM returned GROUP BY resource_id
    )
    SELECT array_agg(s.resource_id ORDER BY s.resource_id),
           array_agg(s.quantity ORDER BY s.resource_id)
      INTO resource_ids, quantities
      FROM summed AS s;
    PERFORM openreserve.move_stock(resource_ids, quantities, tokens);
END
$$;

-- Closes those of the reservations that are over and still HELD, gives their units back and returns
-- their tokens; null, if there are none. The caller has locked them.
CREATE FUNCTION openreserve.close_expired(tokens uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    closed uuid[];
BEGIN
    WITH expired AS (
        UPDATE openreserve.reservations AS r
           SET status = 'EXPIRED', settled_at = moment
         WHERE r.token = ANY (tokens) AND r.status = 'HELD' AND r.expires_at <= moment
     RETURNING r.token
    )
    SELECT array_agg(e.token) INTO closed FROM expired AS e;
    PERFORM openreserve.return_stock(closed);
    RETURN closed;
END
$$;

-- Closes expired holds of a resource because somebody wants its stock now, at most batch_size of
-- them, the first to expire first, and returns how many.
CREATE FUNCTION openreserve.reclaim(wanted_resource_id text, batch_size integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    tokens uuid[];
BEGIN
    SELECT array_agg(due.token)
      INTO tokens
      FROM (SELECT i.token
              FROM openreserve.reservation_items AS i
             WHERE i.resource_id = wanted_resource_id AND i.held_until <= moment
             ORDER BY i.held_until
             LIMIT batch_size) AS due;

    -- Waits for a holder of these locks instead of skipping them: it is returning this very stock,
    -- so who skipped would only look again, and again. In the order of the tokens, as two reclaims
    -- of one cart can start from different resources.
    PERFORM FROM openreserve.reservations AS r
      WHERE r.token = ANY (tokens)
      ORDER BY r.token
        FOR UPDATE;

    RETURN coalesce(cardinality(openreserve.close_expired(tokens)), 0);
END
$$;

-- What keeps these items from being taken. shortages: null, or a list of {resourceId, requested,
-- available}. unknown_id: the first that is no resource. reclaimable: one that is short and has
-- expired holds. short_until: when the first live hold on one that is short ends.
CREATE FUNCTION openreserve.find_shortages(
    IN resource_ids text[], IN quantities integer[],
    OUT shortages json[], OUT unknown_id text, OUT reclaimable text, OUT short_until timestamptz
)
LANGUAGE plpgsql AS $$
DECLARE
    available      bigint;
    first_deadline timestamptz;
BEGIN
    FOR n IN 1 .. cardinality(resource_ids) LOOP
        -- One snapshot for both: short in it with nothing to reclaim in it is a true refusal.
        SELECT r.available_stock,
               CASE WHEN r.available_stock < quantities[n] THEN
                    (SELECT min(i.held_until) FROM openreserve.reservation_items AS i
                      WHERE i.resource_id = r.resource_id AND i.held_until IS NOT NULL)
               END
          INTO available, first_deadline
          FROM openreserve.resources AS r
         WHERE r.resource_id = resource_ids[n];

        IF NOT FOUND THEN
            unknown_id := coalesce(unknown_id, resource_ids[n]);
        ELSIF available < quantities[n] THEN
            IF first_deadline <= clock_timestamp() THEN
                reclaimable := resource_ids[n];
            END IF;
            short_until := least(short_until, first_deadline);
            shortages := shortages || json_build_object(
                'resourceId', resource_ids[n], 'requested', quantities[n], 'available', available);
        END IF;
    END LOOP;
END
$$;

-- Holds all items under new_token, or none. The ids come sorted, each once. outcome is
--     held, replayed             token and expires_at: what is, or was, answered
--     key_reused                 the key belongs to another request
--     unknown_resource           unknown_id
--     ttl_out_of_range
--     out_of_stock               shortages; short_for_ms: how long nothing returns by itself
-- Nothing is written in any case but held, except that expired holds may have been closed.
--
-- A procedure, because it ends transactions: to give back locks before it looks again, and so
-- that the hold can one day be committed before the wait for the log.
CREATE PROCEDURE openreserve.reserve(
    IN  key text, IN hash bytea, IN new_token uuid,
    IN  resource_ids text[], IN quantities integer[],
    IN  ttl_seconds bigint, IN ttl_seconds_max integer, IN reclaim_batch_size integer,
    OUT outcome text, OUT token uuid, OUT expires_at timestamptz,
    OUT unknown_id text, OUT shortages json[], OUT short_for_ms integer
)
LANGUAGE plpgsql AS $$
DECLARE
    known       openreserve.idempotency_keys;
    reclaimable text;
    short_until timestamptz;
    moment      timestamptz(3);
    written     bigint;
    taken       bigint[];
BEGIN
    LOOP
        SELECT k.* INTO known FROM openreserve.idempotency_keys AS k WHERE k.idempotency_key = key;
        IF FOUND THEN
            outcome := CASE WHEN known.request_hash = hash THEN 'replayed' ELSE 'key_reused' END;
            token := known.token;
            expires_at := known.expires_at;
            RETURN;
        END IF;

        -- Without a lock: whoever finds the stock gone has cost two index look-ups.
        SELECT f.* INTO shortages, unknown_id, reclaimable, short_until
          FROM openreserve.find_shortages(resource_ids, quantities) AS f;
        IF unknown_id IS NOT NULL THEN
            outcome := 'unknown_resource';
            RETURN;
        ELSIF ttl_seconds NOT BETWEEN 1 AND ttl_seconds_max THEN
            outcome := 'ttl_out_of_range';
            RETURN;
        ELSIF reclaimable IS NOT NULL THEN
            PERFORM openreserve.reclaim(reclaimable, reclaim_batch_size);
            COMMIT;  -- the resources it locked need not be in the order of ours
            CONTINUE;
        ELSIF shortages IS NOT NULL THEN
            outcome := 'out_of_stock';
            short_for_ms := extract(epoch FROM short_until - clock_timestamp()) * 1000;
            RETURN;
        END IF;

        -- First what nobody else wants, last the row that everybody wants: its lock is held for
        -- as short as can be. The key waits here for a twin of this request that is under way.
        moment := clock_timestamp();
        expires_at := moment + make_interval(secs => ttl_seconds);
        WITH claimed AS (
            INSERT INTO openreserve.idempotency_keys
                   (idempotency_key, request_hash, token, created_at, expires_at)
            VALUES (key, hash, new_token, moment, reserve.expires_at)
                ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING
         RETURNING *
        ), held AS (
            INSERT INTO openreserve.reservations (token, created_at, expires_at)
            SELECT c.token, c.created_at, c.expires_at FROM claimed AS c
         RETURNING *
        )
        INSERT INTO openreserve.reservation_items (token, resource_id, quantity, held_until)
        SELECT h.token, item.resource_id, item.quantity, h.expires_at
          FROM held AS h, unnest(resource_ids, quantities) AS item (resource_id, quantity);
        GET DIAGNOSTICS written = ROW_COUNT;
        CONTINUE WHEN written = 0;  -- the twin has finished: its answer is ours

        taken := ARRAY(SELECT -q::bigint FROM unnest(quantities) AS q);
        IF openreserve.move_stock(resource_ids, taken, ARRAY[new_token]) THEN
            outcome := 'held';
            token := new_token;
            RETURN;
        END IF;
        ROLLBACK;  -- somebody took the units since we looked: look again
    END LOOP;
END
$$;

-- Closes at most batch_size expired holds because nobody settled them, the first to expire first:
-- of the wanted ones, or of all when that is null. lags_ms: how late each was closed. still_held:
-- the wanted ones that are not over yet, or that somebody else is closing.
CREATE FUNCTION openreserve.expire(
    IN wanted uuid[], IN batch_size integer, OUT lags_ms integer[], OUT still_held uuid[]
)
LANGUAGE plpgsql AS $$
DECLARE
    tokens uuid[];
BEGIN
    -- Skips what is locked: whoever has it is settling it, and there is other work.
    SELECT array_agg(due.token)
      INTO tokens
      FROM (SELECT r.token
              FROM openreserve.reservations AS r
             WHERE r.status = 'HELD' AND r.expires_at <= now()
               AND (wanted IS NULL OR r.token = ANY (wanted))
             ORDER BY r.expires_at
             LIMIT batch_size
               FOR UPDATE SKIP LOCKED) AS due;
    tokens := openreserve.close_expired(tokens);

    SELECT coalesce(array_agg(extract(epoch FROM r.settled_at - r.expires_at) * 1000), '{}')
      INTO lags_ms
      FROM openreserve.reservations AS r WHERE r.token = ANY (tokens);
    SELECT coalesce(array_agg(r.token), '{}')
      INTO still_held
      FROM openreserve.reservations AS r WHERE r.token = ANY (wanted) AND r.status = 'HELD';
END
$$;

-- Deletes at most batch_size rows of each kind that nobody needs any more, and returns how many:
-- keys, reservations whose stock was returned, events. What is committed stays.
--
-- With its owner's rights: the functions may delete nothing but through here, and here nothing
-- that is younger than the promise to callers, whatever the arguments.
CREATE FUNCTION openreserve.purge(
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
         LIMIT batch_size) AS old
     WHERE (e.written_by, e.position) = (old.written_by, old.position);
    GET DIAGNOSTICS events = ROW_COUNT;
END
$$;

-- Commits a hold whose deadline lies ahead, and changes nothing else. Returns the reservation as
-- it stands afterwards; no row, when there is none.
CREATE FUNCTION openreserve.commit(wanted uuid) RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz;
BEGIN
    SELECT r.expires_at INTO deadline
      FROM openreserve.reservations AS r WHERE r.token = wanted AND r.status = 'HELD' FOR UPDATE;
    -- The clock is read now that the lock is held. A clock read before the wait for it would let
    -- a hold be committed after its deadline.
    IF deadline > clock_timestamp() THEN
        UPDATE openreserve.reservations AS r
           SET status = 'COMMITTED', settled_at = clock_timestamp()
         WHERE r.token = wanted AND r.status = 'HELD';
        UPDATE openreserve.reservation_items AS i SET held_until = NULL WHERE i.token = wanted;
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;

-- Gives a hold back: RELEASED before its deadline, EXPIRED from then on. Returns the reservation
-- as it stands afterwards; no row, when there is none.
CREATE FUNCTION openreserve.release(wanted uuid) RETURNS SETOF openreserve.reservations_now
LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz;
BEGIN
    SELECT r.expires_at INTO deadline
      FROM openreserve.reservations AS r WHERE r.token = wanted AND r.status = 'HELD' FOR UPDATE;
    IF FOUND THEN
        UPDATE openreserve.reservations AS r
           SET status = CASE WHEN deadline > clock_timestamp()
                             THEN 'RELEASED' ELSE 'EXPIRED' END::openreserve.reservation_status,
               settled_at = clock_timestamp()
         WHERE r.token = wanted AND r.status = 'HELD';
        PERFORM openreserve.return_stock(ARRAY[wanted]);
    END IF;
    RETURN QUERY SELECT * FROM openreserve.reservations_now AS n WHERE n.token = wanted;
END
$$;

-- Commits a hold, also after its deadline if its stock is still to be had: all items or none.
-- outcome is settled (read the reservation), unknown_token, or out_of_stock with the shortages.
CREATE PROCEDURE openreserve.reacquire(
    IN  wanted uuid, IN reclaim_batch_size integer,
    OUT outcome text, OUT shortages json[], OUT status text, OUT expires_at timestamptz,
    OUT reacquired boolean, OUT resource_ids text[], OUT quantities integer[]
)
LANGUAGE plpgsql AS $$
DECLARE
    hold        openreserve.reservations;
    past        boolean;
    reclaimable text;
    taken       bigint[];
BEGIN
    LOOP
        SELECT r.* INTO hold
          FROM openreserve.reservations AS r WHERE r.token = wanted FOR UPDATE;
        IF NOT FOUND THEN
            outcome := 'unknown_token';
            RETURN;
        END IF;
        SELECT n.resource_ids, n.quantities INTO resource_ids, quantities
          FROM openreserve.reservations_now AS n WHERE n.token = wanted;
        past := hold.expires_at <= clock_timestamp();

        -- A hold that is over but that nobody has closed still has its units set aside.
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
            END IF;
            taken := ARRAY(SELECT -q::bigint FROM unnest(quantities) AS q);
            IF NOT openreserve.move_stock(resource_ids, taken, ARRAY[wanted]) THEN
                ROLLBACK;  -- somebody took the units since we looked: look again
                CONTINUE;
            END IF;
        END IF;
        IF hold.status IN ('HELD', 'EXPIRED') THEN
            UPDATE openreserve.reservations AS r
               SET status = 'COMMITTED', settled_at = clock_timestamp(), reacquired = past
             WHERE r.token = wanted AND r.status = hold.status;
            UPDATE openreserve.reservation_items AS i SET held_until = NULL WHERE i.token = wanted;
        END IF;

        outcome := 'settled';
        SELECT n.status, n.expires_at, n.reacquired INTO status, expires_at, reacquired
          FROM openreserve.reservations_now AS n WHERE n.token = wanted;
        RETURN;
    END LOOP;
END
$$;

-- Creates the resource, or sets its total; what is held or committed stays so, and available_stock
-- moves by the difference. outcome is created, changed, version_mismatch, or below_allocated with
-- the units that the total would have to cover. expected_version null: whatever the version.
CREATE PROCEDURE openreserve.set_stock(
    IN  wanted text, IN total bigint, IN expected_version bigint, IN reclaim_batch_size integer,
    OUT outcome text, OUT allocated bigint, OUT version bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    stock          openreserve.resources;
    first_deadline timestamptz;
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
            CONTINUE WHEN NOT FOUND;  -- somebody created it since we looked
            outcome := 'created';
            version := 1;
            RETURN;
        ELSIF stock.available_stock + total - stock.total_stock >= 0 THEN
            UPDATE openreserve.resources AS r
               SET total_stock = total,
                   available_stock = r.available_stock + total - r.total_stock,
                   version = r.version + 1,
                   event_sequence = r.event_sequence
                       + (r.available_stock + total = r.total_stock)::integer,
                   updated_at = clock_timestamp()
             WHERE r.resource_id = wanted AND r.total_stock <> total  -- else a repeat: no change
         RETURNING r.* INTO stock;
            IF FOUND AND stock.available_stock = 0 THEN
                PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', '{}');
            END IF;
            outcome := 'changed';
            RETURN;
        END IF;

        SELECT min(i.held_until) INTO first_deadline
          FROM openreserve.reservation_items AS i
         WHERE i.resource_id = wanted AND i.held_until IS NOT NULL;
        IF first_deadline <= clock_timestamp() THEN
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
