-- list_events: Only of transactions that are older than every open one. So no event can appear
-- before a cursor that has passed; a new event waits for older transactions to end.
SELECT event_id, type, resource_id, value, sequence, tokens, created_at,
       written_by::text AS written_by, position
  FROM openreserve.events
 WHERE (written_by, position) > (%(written_by)s::xid8, %(position)s::bigint)
   AND written_by < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.written_by, position
 LIMIT %(limit)s;

-- find_place_before_newest: From the end of the index. Events that are not listed yet do not count.
SELECT written_by::text AS written_by, position
  FROM openreserve.events
 WHERE written_by < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.written_by DESC, position DESC
OFFSET %(count)s LIMIT 1;

-- claim_events: The age by the clock of the database, which wrote created_at.
SELECT event_id, type, resource_id, value, sequence, tokens, created_at,
       written_by::text AS written_by, position,
       (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint AS age_ms
  FROM openreserve.claim_events(%(claim_seconds)s::integer, %(limit)s::integer);

-- mark_published: By the primary key.
SELECT openreserve.mark_published(
       %(written_by)s::text[]::xid8[], %(positions)s::bigint[]) AS marked;
