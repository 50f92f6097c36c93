-- Writes a stock event of a resource into the outbox. The caller has locked the row and counted the
-- event in event_sequence. Of the tokens, the event names those that have an item of this resource.
--
-- In PL/pgSQL, which caches the plan. A function in SQL would be planned for each event.
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


-- Takes at most batch_size unpublished events for the publisher, the longest unpublished first. For
-- claim_seconds no other publisher gets them; if they are not marked by then, they are published
-- again. A repeat within that time returns other events.
--
-- A claim instead of a row lock, so that no lock is held while SQS is called. The commit does not
-- wait for the WAL flush: after a crash of the server the events are published again.
CREATE OR REPLACE FUNCTION openreserve.claim_events(claim_seconds integer, batch_size integer)
RETURNS SETOF openreserve.events
LANGUAGE plpgsql AS $$
BEGIN
    -- For this transaction, and in here, where a proxy sees no SET that pins the connection.
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


-- Marks events as published. A repeat changes nothing. If it fails, they are published again when
-- the claim ends.
CREATE OR REPLACE FUNCTION openreserve.mark_published(written_by xid8[], positions bigint[])
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE openreserve.events AS e
       SET hand_on_after = NULL
      FROM unnest(mark_published.written_by, positions) AS taken (written_by, position)
     WHERE (e.written_by, e.position) = (taken.written_by, taken.position);
END
$$;
