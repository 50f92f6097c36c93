-- allow: Only for this transaction. The whole books may take longer than the role may.
SELECT set_config('statement_timeout', %(timeout_ms)s::text, true);

-- count: What the check covers, in its snapshot.
SELECT (SELECT count(*) FROM openreserve.resources) AS resources,
       (SELECT count(*) FROM openreserve.reservations) AS reservations;

-- find_drift: Through the view, which says what must agree with what.
SELECT * FROM openreserve.drift ORDER BY resource_id;

-- repair: A procedure, because it rolls back what cannot be mended.
CALL openreserve.repair(%(resource_id)s, %(reason)s, NULL, NULL, NULL);
