-- expire: One statement for a batch, with one update of each resource.
SELECT lags_ms, still_held FROM openreserve.expire(%(tokens)s::uuid[], %(batch_size)s::integer);

-- purge: In batches, so that no transaction is long.
SELECT keys, reservations, events
  FROM openreserve.purge(
       %(key_hours)s::integer, %(reservation_days)s::integer, %(event_days)s::integer,
       %(batch_size)s::integer);

-- list_deadlines: Only of the near future: a later run writes the others to Redis in time.
SELECT token, expires_at
  FROM openreserve.reservations
 WHERE status = 'HELD'
   AND expires_at <= now() + make_interval(secs => %(within_seconds)s)
   AND (expires_at, token) > (%(after)s::timestamptz, %(after_token)s::uuid)
 ORDER BY expires_at, token
 LIMIT %(limit)s;

-- claim_events: The age by the clock of the database, which wrote created_at.
SELECT event_id, type, resource_id, value, sequence, tokens, created_at,
       written_by::text AS written_by, position,
       (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint AS age_ms
  FROM openreserve.claim_events(%(claim_seconds)s::integer, %(limit)s::integer);

-- mark_handed_on: By the primary key.
SELECT openreserve.mark_handed_on(
       %(written_by)s::text[]::xid8[], %(positions)s::bigint[]) AS marked;

-- check_books: Each call checks the next batch of resources.
SELECT checked, drifting FROM openreserve.check_books(%(batch_size)s::integer);

-- take_reclaims: Each reclaim is counted once, by the call that deletes it.
SELECT openreserve.take_reclaims() AS closed;
