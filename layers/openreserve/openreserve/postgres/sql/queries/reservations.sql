-- reserve: One call, because no row lock may be held across a round trip.
CALL openreserve.reserve(
    %(key)s, %(hash)s, %(token)s, %(resource_ids)s::text[], %(quantities)s::integer[],
    %(ttl_seconds)s::bigint, %(ttl_seconds_max)s::integer, %(reclaim_batch_size)s::integer,
    NULL, NULL, NULL, NULL, NULL, NULL);

-- commit: A function, because it is one transaction. A repeat reads the same reservation.
SELECT * FROM openreserve.commit(%(token)s);

-- reacquire: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.reacquire(
    %(token)s, %(reclaim_batch_size)s::integer, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- release: A function, because it is one transaction. A repeat reads the same reservation.
SELECT * FROM openreserve.release(%(token)s);

-- find_reservation: Through the view, which applies the deadline rule.
SELECT * FROM openreserve.reservations_now WHERE token = %(token)s;

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
