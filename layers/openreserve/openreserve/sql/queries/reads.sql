-- find_reservation: Through the view, so that a hold is over at its deadline to every reader.
SELECT * FROM openreserve.reservations_now WHERE token = %(token)s;

-- find_resource: Through the view, so that units of holds that are over count as available.
SELECT * FROM openreserve.resources_now WHERE resource_id = %(resource_id)s;

-- list_resources: By key, not by OFFSET: page a million costs what page one costs. `starts with` is
-- a range of the primary key, since that sorts by bytes.
SELECT *
  FROM openreserve.resources_now
 WHERE resource_id ^@ %(prefix)s
   AND resource_id > %(after)s
 ORDER BY resource_id
 LIMIT %(limit)s;

-- ping: Proves that Postgres answers and that the schema is there.
SELECT max(number) AS schema_number FROM openreserve.migrations;

-- list_events: Of transactions that are over, and older than any that is not: nothing can turn up
-- later behind a cursor that has passed. What was written a moment ago waits for the rest.
SELECT event_id, type, resource_id, value, sequence, tokens, created_at,
       written_by::text AS written_by, position
  FROM openreserve.events
 WHERE (written_by, position) > (%(written_by)s::xid8, %(position)s::bigint)
   AND written_by < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.written_by, position
 LIMIT %(limit)s;

-- find_place_before_newest: From the end of the index; what is not listed yet does not count.
SELECT written_by::text AS written_by, position
  FROM openreserve.events
 WHERE written_by < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.written_by DESC, position DESC
OFFSET %(count)s LIMIT 1;
