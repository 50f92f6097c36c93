-- What callers see. The units of a hold are available from its deadline on, before any sweep.


-- Reservations. A hold whose deadline has passed is EXPIRED.
CREATE OR REPLACE VIEW openreserve.reservations_now AS
SELECT r.token,
       CASE WHEN r.status = 'HELD' AND openreserve.deadline_passed(r.expires_at)
            THEN 'EXPIRED' ELSE r.status END AS status,
       r.expires_at,
       r.reacquired,
       i.resource_ids,
       i.quantities
  FROM openreserve.reservations AS r
 CROSS JOIN LATERAL (
       SELECT array_agg(resource_id ORDER BY resource_id) AS resource_ids,
              array_agg(quantity ORDER BY resource_id) AS quantities
         FROM openreserve.reservation_items
        WHERE token = r.token
       ) AS i;


-- Resources. Units of holds whose deadline has passed are available.
CREATE OR REPLACE VIEW openreserve.resources_now AS
SELECT r.resource_id,
       r.total_stock,
       r.available_stock + h.expired AS available_stock,
       h.held - h.expired AS held_stock,
       r.total_stock - r.available_stock - h.held AS committed_stock,
       r.version,
       r.updated_at
  FROM openreserve.resources AS r
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(quantity), 0)::bigint AS held,
              coalesce(sum(quantity) FILTER (
                  WHERE openreserve.deadline_passed(held_until, moment)), 0)::bigint AS expired
         FROM openreserve.reservation_items
        -- One reading of the clock for all items: OFFSET 0 keeps it from being inlined.
        CROSS JOIN (SELECT clock_timestamp() AS moment OFFSET 0) AS clock
        WHERE resource_id = r.resource_id AND held_until IS NOT NULL
       ) AS h;
