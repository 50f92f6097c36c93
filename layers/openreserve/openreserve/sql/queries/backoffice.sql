-- set_stock_of_many: A procedure, because each row is a transaction of its own.
CALL openreserve.set_stock_of_many(
    %(resource_ids)s::text[], %(totals)s::bigint[], %(reclaim_batch_size)s::integer, NULL, NULL);

-- adjust_stock: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.adjust_stock(
    %(key)s, %(resource_id)s, %(difference)s::bigint, %(reason)s, %(total_max)s::bigint,
    %(reclaim_batch_size)s::integer, NULL, NULL, NULL, NULL);

-- list_held: In the order of the deadlines, from the index of the sweep. OFFSET 0 keeps the planner
-- from joining all reservations to a page of them.
SELECT n.*, r.expires_at AS listed_at
  FROM (SELECT token, expires_at
          FROM openreserve.reservations
         WHERE status = 'HELD'
           AND (expires_at, token) > (%(after)s::timestamptz, %(after_token)s::uuid)
         ORDER BY expires_at, token
         LIMIT %(limit)s) AS r
 CROSS JOIN LATERAL (
       SELECT * FROM openreserve.reservations_now WHERE token = r.token OFFSET 0) AS n
 ORDER BY listed_at, n.token;

-- list_held_of_resource: Likewise, from the index of the reclaim.
SELECT n.*, i.held_until AS listed_at
  FROM (SELECT token, held_until
          FROM openreserve.reservation_items
         WHERE resource_id = %(resource_id)s AND held_until IS NOT NULL
           AND (held_until, token) > (%(after)s::timestamptz, %(after_token)s::uuid)
         ORDER BY held_until, token
         LIMIT %(limit)s) AS i
 CROSS JOIN LATERAL (
       SELECT * FROM openreserve.reservations_now WHERE token = i.token OFFSET 0) AS n
 ORDER BY listed_at, n.token;

-- list_settled: By token, hence in random order: an index by time would cost every reserve.
SELECT n.*, NULL AS listed_at
  FROM (SELECT token
          FROM openreserve.reservations
         WHERE status <> 'HELD' AND token > %(after_token)s::uuid
         ORDER BY token
         LIMIT %(limit)s) AS r
 CROSS JOIN LATERAL (
       SELECT * FROM openreserve.reservations_now WHERE token = r.token OFFSET 0) AS n
 ORDER BY n.token;

-- list_settled_of_resource: Likewise.
SELECT n.*, NULL AS listed_at
  FROM (SELECT token
          FROM openreserve.reservation_items
         WHERE resource_id = %(resource_id)s AND held_until IS NULL
           AND token > %(after_token)s::uuid
         ORDER BY token
         LIMIT %(limit)s) AS i
 CROSS JOIN LATERAL (
       SELECT * FROM openreserve.reservations_now WHERE token = i.token OFFSET 0) AS n
 ORDER BY n.token;
