-- Whether the counters agree with the reservations, which are the truth, and the repair.


-- Checks the next resources in turn, at most batch_size: available_stock against the sums of held
-- and committed items, from the indexes. Returns how many were checked, and those that disagree. A
-- repeat checks the next ones. If it fails, the next call checks the same ones.
--
-- One statement, hence one snapshot: concurrent transactions cause no false alarm.
CREATE OR REPLACE FUNCTION openreserve.audit_counters(
    IN batch_size integer, OUT checked bigint, OUT drifting json[]
)
LANGUAGE plpgsql AS $$
DECLARE
    behind text := (SELECT a.resource_id FROM openreserve.audit AS a);
    last   text;
BEGIN
    SELECT count(*), max(r.resource_id),
           coalesce(array_agg(json_build_object(
               'resourceId', r.resource_id, 'totalStock', r.total_stock,
               'availableStock', r.available_stock, 'heldStock', h.units, 'committedStock', s.units
           )) FILTER (WHERE r.total_stock <> r.available_stock + h.units + s.units), '{}')
      INTO checked, last, drifting
      FROM (SELECT n.*
              FROM openreserve.resources AS n
             WHERE n.resource_id > behind
             ORDER BY n.resource_id
             LIMIT batch_size) AS r
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(i.quantity), 0) AS units
             FROM openreserve.reservation_items AS i
            WHERE i.resource_id = r.resource_id AND i.held_until IS NOT NULL) AS h
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(i.quantity), 0) AS units
             FROM openreserve.reservation_items AS i
            WHERE i.resource_id = r.resource_id
              AND i.held_until IS NULL AND NOT i.returned) AS s;
    UPDATE openreserve.audit SET resource_id = CASE WHEN checked < batch_size THEN '' ELSE last END;
END
$$;


-- Items with their marks, held_until and returned, as they must be by the reservation.
CREATE OR REPLACE VIEW openreserve.item_marks AS
SELECT i.token, i.resource_id, i.quantity, r.status, m.right_held_until, m.right_returned,
       (i.held_until, i.returned) IS DISTINCT FROM (m.right_held_until, m.right_returned) AS wrong
  FROM openreserve.reservation_items AS i
  JOIN openreserve.reservations AS r ON r.token = i.token
 CROSS JOIN LATERAL (
       SELECT CASE WHEN r.status = 'HELD' THEN r.expires_at END AS right_held_until,
              r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED') AS right_returned) AS m;


-- All resources whose counter or whose marks disagree with their reservations, including items of a
-- resource that does not exist. One statement, hence one snapshot.
CREATE OR REPLACE VIEW openreserve.drift AS
WITH reserved AS (
    SELECT resource_id,
           coalesce(sum(quantity) FILTER (WHERE status = 'HELD'), 0) AS held_stock,
           coalesce(sum(quantity) FILTER (WHERE status = 'COMMITTED'), 0) AS committed_stock,
           count(*) FILTER (WHERE wrong) AS wrong_marks
      FROM openreserve.item_marks
     GROUP BY resource_id
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


-- Sets the counter of a resource, and the marks of its items, to what its reservations say, and
-- keeps the reason. The reservations and the total are not touched. outcome is
--     clean                      nothing to repair: a repeat finds this
--     unknown_resource
--     oversold                   the reservations have difference units more than the total:
--                                raise the total or cancel; nothing was changed
--     repaired                   difference: by how much available_stock moved
CREATE OR REPLACE PROCEDURE openreserve.repair(
    IN wanted text, IN why text, OUT outcome text, OUT difference bigint, OUT marks_mended bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    stock  openreserve.resources;
    tokens uuid[];
BEGIN
    -- Reservations are locked before resources, by token.
    SELECT array_agg(m.token) INTO tokens FROM openreserve.item_marks AS m
     WHERE m.resource_id = wanted AND m.wrong;
    PERFORM FROM openreserve.reservations AS r
      WHERE r.token = ANY (tokens) ORDER BY r.token FOR UPDATE;
    UPDATE openreserve.reservation_items AS i
       SET held_until = m.right_held_until, returned = m.right_returned
      FROM openreserve.item_marks AS m
     WHERE (m.token, m.resource_id) = (i.token, i.resource_id)
       AND m.wrong
       AND i.token = ANY (tokens) AND i.resource_id = wanted;
    GET DIAGNOSTICS marks_mended = ROW_COUNT;

    SELECT r.* INTO stock
      FROM openreserve.resources AS r WHERE r.resource_id = wanted FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown_resource';
        difference := 0;
        ROLLBACK;
        RETURN;
    END IF;
    -- Read after the lock, hence in a later snapshot: a transaction that moved this counter has
    -- committed it together with its reservation, and one that is about to waits with both.
    SELECT stock.total_stock - stock.available_stock - coalesce(sum(i.quantity), 0)
      INTO difference
      FROM (SELECT h.token, h.quantity FROM openreserve.reservation_items AS h
             WHERE h.resource_id = wanted AND h.held_until IS NOT NULL
             UNION ALL  -- instead of no condition, for the two partial indexes
            SELECT s.token, s.quantity FROM openreserve.reservation_items AS s
             WHERE s.resource_id = wanted AND s.held_until IS NULL) AS i
      JOIN openreserve.reservations AS r ON r.token = i.token
     WHERE r.status IN ('HELD', 'COMMITTED');

    IF stock.available_stock + difference < 0 THEN
        outcome := 'oversold';
        difference := -(stock.available_stock + difference);
        ROLLBACK;
        RETURN;
    ELSIF difference = 0 AND marks_mended = 0 THEN
        outcome := 'clean';
        RETURN;
    END IF;
    IF difference <> 0 THEN
        UPDATE openreserve.resources AS r
           SET available_stock = r.available_stock + difference,
               event_sequence = r.event_sequence
                   + (difference > 0 OR r.available_stock + difference = 0)::integer,
               updated_at = clock_timestamp()
         WHERE r.resource_id = wanted
     RETURNING r.* INTO stock;
        IF difference > 0 THEN
            PERFORM openreserve.write_stock_event(stock, 'STOCK_RESTORED', '{}');
        ELSIF stock.available_stock = 0 THEN
            PERFORM openreserve.write_stock_event(stock, 'STOCK_DEPLETED', '{}');
        END IF;
    END IF;
    INSERT INTO openreserve.repairs (resource_id, difference, marks_mended, reason)
    VALUES (wanted, repair.difference, repair.marks_mended, why);
    outcome := 'repaired';
END
$$;
