-- Holds all items under new_token, or none. The resource_ids are sorted and unique. outcome is
--     held, replayed             token and expires_at, as first answered
--     key_reused                 the key belongs to another request
--     unknown_resource           unknown_id
--     ttl_out_of_range
--     out_of_stock               shortages; short_for_ms until the earliest deadline of a live hold
-- A repeat with the same key and hash returns the first answer, at any time. Every outcome but held
-- has written nothing, except that holds past their deadline may have been closed.
--
-- A procedure, because it ends transactions to release its locks before it tries again.
CREATE OR REPLACE PROCEDURE openreserve.reserve(
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
BEGIN
    LOOP
        SELECT k.* INTO known FROM openreserve.idempotency_keys AS k WHERE k.idempotency_key = key;
        IF FOUND THEN
            outcome := CASE WHEN known.request_hash = hash THEN 'replayed' ELSE 'key_reused' END;
            token := known.token;
            expires_at := known.expires_at;
            RETURN;
        END IF;

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
            COMMIT;
            CONTINUE;
        ELSIF shortages IS NOT NULL THEN
            outcome := 'out_of_stock';
            short_for_ms := extract(epoch FROM short_until - clock_timestamp()) * 1000;
            RETURN;
        END IF;

        -- The rows of this request first, the hot row last. A twin of this request that is under
        -- way holds the key: this INSERT waits for it.
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
        CONTINUE WHEN written = 0;  -- the twin has committed: its answer is this one's

        IF openreserve.take_stock(resource_ids, quantities, new_token) THEN
            outcome := 'held';
            token := new_token;
            RETURN;
        END IF;
        ROLLBACK;  -- another transaction took the units since find_shortages: try again
    END LOOP;
END
$$;
