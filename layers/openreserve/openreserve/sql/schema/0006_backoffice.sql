-- What operators do: set the stock of many, adjust it with a reason, list reservations, and mend the
-- books. Nothing here adds to what a reserve writes.

-- For the list of a resource's reservations: those that hold nothing any more. What is held has an
-- index of its own, so a reserve writes nothing here; whatever ends a hold writes one entry.
CREATE INDEX reservation_items_settled_by_resource
    ON openreserve.reservation_items (resource_id, token) WHERE held_until IS NULL;

-- Why a total was changed by so many units. Kept as it is: it is the books, and it is what makes a
-- repeat harmless.
CREATE TABLE openreserve.adjustments (
    created_at      timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    difference      bigint         NOT NULL,
    total_stock     bigint         NOT NULL,  -- after it
    idempotency_key text           NOT NULL COLLATE "C",
    resource_id     text           NOT NULL COLLATE "C",
    reason          text           NOT NULL,

    CONSTRAINT adjustments_pkey PRIMARY KEY (idempotency_key),
    CONSTRAINT adjustments_key_length CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT adjustments_change_something CHECK (difference <> 0),
    CONSTRAINT adjustments_total_not_negative CHECK (total_stock >= 0),
    CONSTRAINT adjustments_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);

-- Where the books were mended, by how much, why, and by whom. Kept as it is.
CREATE TABLE openreserve.repairs (
    repair_id     bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    difference    bigint      NOT NULL,  -- of available_stock
    marks_mended  bigint      NOT NULL,  -- items whose marks were not those of the reservation
    resource_id   text        NOT NULL COLLATE "C",
    reason        text        NOT NULL,
    repaired_by   text        NOT NULL DEFAULT session_user,

    CONSTRAINT repairs_pkey PRIMARY KEY (repair_id),
    CONSTRAINT repairs_change_something CHECK (difference <> 0 OR marks_mended > 0),
    CONSTRAINT repairs_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);

-- Sets many totals, one after the other as they come, as set_stock does each. outcomes has a word
-- for each: created, changed, unchanged, or below_allocated with the units in allocated.
--
-- Each row is a transaction, so that a row which everybody wants is locked for its own change and
-- not for those of hundreds of others, and so that no order of rows can deadlock. Only the last one
-- waits for the log, which by then has all of them.
CREATE PROCEDURE openreserve.set_stock_of_many(
    IN  wanted text[], IN totals bigint[], IN reclaim_batch_size integer,
    OUT outcomes text[], OUT allocated bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
    units   bigint;
    version bigint;
BEGIN
    FOR n IN 1 .. cardinality(wanted) LOOP
        units := NULL;
        -- Without a lock: an import that is run again takes none at all.
        IF EXISTS (SELECT FROM openreserve.resources AS r
                    WHERE r.resource_id = wanted[n] AND r.total_stock = totals[n]) THEN
            outcome := 'unchanged';
        ELSE
            PERFORM set_config('synchronous_commit', 'off', true);
            CALL openreserve.set_stock(
                wanted[n], totals[n], NULL, reclaim_batch_size, outcome, units, version);
            COMMIT;
        END IF;
        outcomes[n] := outcome;
        allocated[n] := units;
    END LOOP;
    -- A commit that wrote does wait. Also when no row did: what was found unchanged may have been
    -- committed a moment ago by somebody who has yet to wait.
    PERFORM pg_logical_emit_message(true, 'openreserve', '');
END
$$;

-- Moves a total by a difference, once per key, and keeps the reason. outcome is
--     adjusted, replayed         total, made_at: what is, or was, answered
--     key_reused                 the key belongs to another adjustment
--     unknown_resource
--     total_out_of_range
--     below_allocated            total, and allocated: the units that it would have to cover
-- Nothing is written in any case but adjusted, except that expired holds may have been closed.
CREATE PROCEDURE openreserve.adjust_stock(
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

        UPDATE openreserve.resources AS r
           SET total_stock = r.total_stock + units,
               available_stock = r.available_stock + units,
               version = r.version + 1,
               event_sequence = r.event_sequence + (r.available_stock + units = 0)::integer,
               updated_at = clock_timestamp()
         WHERE r.resource_id = wanted
           AND r.available_stock + units >= 0
           AND r.total_stock + units <= total_max
     RETURNING r.* INTO stock;
        IF FOUND THEN
            -- The key behind the resource, unlike in reserve: nobody who has a key of this table
            -- waits for a resource, so that no circle can close.
            INSERT INTO openreserve.adjustments AS a
                   (idempotency_key, resource_id, difference, reason, total_stock)
            VALUES (key, wanted, units, why, stock.total_stock)
                ON CONFLICT ON CONSTRAINT adjustments_pkey DO NOTHING
         RETURNING a.created_at INTO made_at;
            IF NOT FOUND THEN
                ROLLBACK;  -- a twin of this request was faster: its answer is ours
                CONTINUE;
            END IF;
            IF stock.available_stock = 0 THEN
                PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', '{}');
            END IF;
            outcome := 'adjusted';
            total := stock.total_stock;
            RETURN;
        END IF;

        -- One snapshot for both: too few in it with nothing to reclaim in it is a true refusal.
        SELECT r.*, h.first_deadline
          INTO stock.total_stock, stock.available_stock, first_deadline
          FROM (SELECT n.total_stock, n.available_stock
                  FROM openreserve.resources AS n WHERE n.resource_id = wanted) AS r
         CROSS JOIN LATERAL (
               SELECT min(i.held_until) AS first_deadline
                 FROM openreserve.reservation_items AS i
                WHERE i.resource_id = wanted AND i.held_until IS NOT NULL) AS h;
        IF NOT FOUND THEN
            outcome := 'unknown_resource';
            RETURN;
        ELSIF stock.total_stock + units > total_max THEN
            outcome := 'total_out_of_range';
            RETURN;
        ELSIF stock.available_stock + units >= 0 THEN
            NULL;  -- units came back since we looked: look again
        ELSIF first_deadline <= clock_timestamp() THEN
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

-- Makes the counter of a resource, and the marks of its items, what its reservations say, and keeps
-- the reason. The reservations are the truth and are not touched, nor is the total. outcome is
--     clean                      there was nothing to mend
--     unknown_resource
--     oversold                   reservations have more units than there are: difference says how
--                                many, and somebody has to raise the total or cancel
--     repaired                   difference: by how much available_stock was moved
CREATE PROCEDURE openreserve.repair(
    IN wanted text, IN why text, OUT outcome text, OUT difference bigint, OUT marks_mended bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    total     bigint;
    available bigint;
    tokens    uuid[];
BEGIN
    -- Reservations are locked before resources, by token.
    SELECT array_agg(b.token) INTO tokens FROM openreserve.wrong_marks AS b
     WHERE b.resource_id = wanted;
    PERFORM FROM openreserve.reservations AS r
      WHERE r.token = ANY (tokens) ORDER BY r.token FOR UPDATE;
    UPDATE openreserve.reservation_items AS i
       SET held_until = b.right_held_until, returned = b.right_returned
      FROM openreserve.wrong_marks AS b
     WHERE (b.token, b.resource_id) = (i.token, i.resource_id)
       AND i.token = ANY (tokens) AND i.resource_id = wanted;
    GET DIAGNOSTICS marks_mended = ROW_COUNT;

    SELECT r.total_stock, r.available_stock INTO total, available
      FROM openreserve.resources AS r WHERE r.resource_id = wanted FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown_resource';
        difference := 0;
        ROLLBACK;
        RETURN;
    END IF;
    -- Read behind the lock, hence in a later snapshot: whoever moved this counter has committed,
    -- reservation and counter together, and whoever is about to waits for us with both.
    SELECT total - available - coalesce(sum(i.quantity), 0)
      INTO difference
      FROM (SELECT h.token, h.quantity FROM openreserve.reservation_items AS h
             WHERE h.resource_id = wanted AND h.held_until IS NOT NULL
             UNION ALL
            SELECT s.token, s.quantity FROM openreserve.reservation_items AS s
             WHERE s.resource_id = wanted AND s.held_until IS NULL) AS i
      JOIN openreserve.reservations AS r ON r.token = i.token
     WHERE r.status IN ('HELD', 'COMMITTED');

    IF available + difference < 0 THEN
        outcome := 'oversold';
        difference := -(available + difference);
        ROLLBACK;
        RETURN;
    ELSIF difference = 0 AND marks_mended = 0 THEN
        outcome := 'clean';
        RETURN;
    END IF;
    IF difference <> 0 THEN
        PERFORM openreserve.move_stock(ARRAY[wanted], ARRAY[difference], '{}');
    END IF;
    INSERT INTO openreserve.repairs (resource_id, difference, marks_mended, reason)
    VALUES (wanted, repair.difference, repair.marks_mended, why);
    outcome := 'repaired';
END
$$;

-- Items whose marks, held_until and returned, are not what the status of their reservation says.
CREATE VIEW openreserve.wrong_marks AS
SELECT i.token, i.resource_id, i.quantity, m.right_held_until, m.right_returned
  FROM openreserve.reservation_items AS i
  JOIN openreserve.reservations AS r ON r.token = i.token
 CROSS JOIN LATERAL (
       SELECT CASE WHEN r.status = 'HELD' THEN r.expires_at END AS right_held_until,
              r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED') AS right_returned) AS m
 WHERE (i.held_until, i.returned) IS DISTINCT FROM (m.right_held_until, m.right_returned);

-- The whole books: every resource whose counter or whose marks are not what its reservations say.
-- One statement, hence one snapshot: traffic makes no drift.
CREATE VIEW openreserve.drift AS
WITH reserved AS (
    SELECT i.resource_id,
           coalesce(sum(i.quantity) FILTER (WHERE r.status = 'HELD'), 0) AS held_stock,
           coalesce(sum(i.quantity) FILTER (WHERE r.status = 'COMMITTED'), 0) AS committed_stock,
           count(*) FILTER (
               WHERE (i.held_until, i.returned) IS DISTINCT FROM (
                     CASE WHEN r.status = 'HELD' THEN r.expires_at END,
                     r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED'))
           ) AS wrong_marks
      FROM openreserve.reservation_items AS i
      JOIN openreserve.reservations AS r ON r.token = i.token
     GROUP BY i.resource_id
), compared AS (
    SELECT resource_id,
           coalesce(s.total_stock, 0) AS total_stock,
           coalesce(s.available_stock, 0) AS available_stock,
           coalesce(r.held_stock, 0)::bigint AS held_stock,
           coalesce(r.committed_stock, 0)::bigint AS committed_stock,
           coalesce(r.wrong_marks, 0) AS wrong_marks
      FROM openreserve.resources AS s
      FULL JOIN reserved AS r USING (resource_id)
)
SELECT c.*, c.total_stock - c.available_stock - c.held_stock - c.committed_stock AS difference
  FROM compared AS c
 WHERE c.wrong_marks > 0
    OR c.total_stock <> c.available_stock + c.held_stock + c.committed_stock;

GRANT SELECT ON openreserve.adjustments, openreserve.repairs,
                openreserve.wrong_marks, openreserve.drift
   TO openreserve_app, openreserve_reader;
GRANT INSERT ON openreserve.adjustments, openreserve.repairs TO openreserve_app;
REVOKE EXECUTE ON PROCEDURE openreserve.set_stock_of_many, openreserve.adjust_stock,
                            openreserve.repair FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE openreserve.set_stock_of_many, openreserve.adjust_stock,
                           openreserve.repair TO openreserve_app;
