-- limit_statement_time: For this transaction, because a full check may exceed the role's timeout.
SELECT set_config('statement_timeout', %(timeout_ms)s::text, true);

-- count: In the snapshot of the check.
SELECT (SELECT count(*) FROM openreserve.resources) AS resources,
       (SELECT count(*) FROM openreserve.reservations) AS reservations;

-- find_drift: Through the view, which defines drift.
SELECT * FROM openreserve.drift ORDER BY resource_id;

-- repair: A procedure, because it rolls back what it cannot repair.
CALL openreserve.repair(%(resource_id)s, %(reason)s, NULL, NULL, NULL);
