-- expire: One statement for a batch, with one update of each resource.
SELECT lags_ms, still_held FROM openreserve.expire(%(tokens)s::uuid[], %(batch_size)s::integer);

-- list_deadlines: Only of the near future: a later run writes the others to Redis in time.
SELECT token, expires_at
  FROM openreserve.reservations
 WHERE status = 'HELD'
   AND expires_at <= now() + make_interval(secs => %(within_seconds)s)
   AND (expires_at, token) > (%(after)s::timestamptz, %(after_token)s::uuid)
 ORDER BY expires_at, token
 LIMIT %(limit)s;

-- take_reclaims: Each reclaim is counted once, by the call that deletes it.
SELECT openreserve.take_reclaims() AS closed;

-- audit_counters: Each call checks the next batch of resources.
SELECT checked, drifting FROM openreserve.audit_counters(%(batch_size)s::integer);

-- purge: In batches, so that no transaction is long.
SELECT keys, reservations, events
  FROM openreserve.purge(
       %(key_hours)s::integer, %(reservation_days)s::integer, %(event_days)s::integer,
       %(batch_size)s::integer);

-- ping: Checks that Postgres answers and that the schema exists.
SELECT max(number) AS schema_number FROM openreserve.migrations;
