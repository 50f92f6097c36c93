-- expire: A batch is one statement, and one change of each resource's row.
SELECT lags_ms, still_held FROM openreserve.expire(%(tokens)s::uuid[], %(batch_size)s::integer);

-- purge: In batches, so that a day's worth is never one transaction.
SELECT keys, reservations, events
  FROM openreserve.purge(
       %(key_hours)s::integer, %(reservation_days)s::integer, %(event_days)s::integer,
       %(batch_size)s::integer);

-- list_deadlines: Only what ends soon: what Redis lost of the rest is told to it in time.
SELECT token, expires_at
  FROM openreserve.reservations
 WHERE status = 'HELD'
   AND expires_at <= now() + make_interval(secs => %(within_seconds)s)
   AND (expires_at, token) > (%(after)s::timestamptz, %(after_token)s::uuid)
 ORDER BY expires_at, token
 LIMIT %(limit)s;

-- claim_events: Claimed for a while, not locked: no lock is held while the queue is spoken to. Who
-- dies in between leaves the claim to run out, and the events are handed on once more.
UPDATE openreserve.events AS e
   SET hand_on_after = clock_timestamp() + make_interval(secs => %(claim_seconds)s)
  FROM (SELECT o.written_by, o.position
          FROM openreserve.events AS o
         WHERE o.hand_on_after <= now()
         ORDER BY o.hand_on_after
         LIMIT %(limit)s
           FOR UPDATE SKIP LOCKED) AS waiting
 WHERE (e.written_by, e.position) = (waiting.written_by, waiting.position)
RETURNING e.event_id, e.type, e.resource_id, e.value, e.sequence, e.tokens, e.created_at,
          e.written_by::text AS written_by, e.position,
          (extract(epoch FROM clock_timestamp() - e.created_at) * 1000)::bigint AS age_ms;

-- mark_handed_on: By place, which is the key.
UPDATE openreserve.events AS e
   SET hand_on_after = NULL
  FROM unnest(%(written_by)s::text[], %(positions)s::bigint[]) AS taken (written_by, position)
 WHERE (e.written_by, e.position) = (taken.written_by::xid8, taken.position)
RETURNING e.event_id;

-- check_books: A round takes as many calls as there are batches of resources.
SELECT checked, drifting FROM openreserve.check_books(%(batch_size)s::integer);

-- take_reclaims: Each is told of once, by whoever takes it.
SELECT openreserve.take_reclaims() AS closed;
