-- find_reservation: Through the view, which applies the deadline rule.
SELECT * FROM openreserve.reservations_now WHERE token = %(token)s;

-- find_resource: Through the view, which applies the deadline rule.
SELECT * FROM openreserve.resources_now WHERE resource_id = %(resource_id)s;

-- list_resources: A keyset, not an OFFSET: the millionth page costs what the first one costs. `^@`,
-- starts with, is a range of the primary key, because that sorts bytewise.
SELECT *
  FROM openreserve.resources_now
 WHERE resource_id ^@ %(prefix)s
   AND resource_id > %(after)s
 ORDER BY resource_id
 LIMIT %(limit)s;

-- ping: Checks that Postgres answers and that the schema exists.
SELECT max(number) AS schema_number FROM openreserve.migrations;

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
