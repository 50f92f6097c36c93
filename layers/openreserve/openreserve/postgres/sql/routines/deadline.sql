-- The deadline rule. A hold is live while its status is HELD and its deadline, expires_at, lies
-- ahead of the database's clock. From the deadline on it is over, whether or not a sweep has closed
-- it. Every routine and view calls deadline_passed; no other SQL compares a deadline with a clock.
--
-- A routine that settles a hold must read the clock after it has locked the reservation. With a
-- clock from before the wait for the lock, a hold could be committed after its deadline. So now(),
-- the start of the transaction, can only preselect rows.


-- Whether a deadline has passed at a moment, by default at this one. Null if the deadline is null.
--
-- The planner inlines it. With a moment that is constant during the query, such as a variable,
-- `deadline_passed(expires_at, moment)` can use an index; clock_timestamp() cannot.
CREATE OR REPLACE FUNCTION openreserve.deadline_passed(
    deadline timestamptz, moment timestamptz DEFAULT clock_timestamp()
) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN deadline <= moment;

-- Because a view calls functions with the rights of its reader.
GRANT EXECUTE ON FUNCTION openreserve.deadline_passed TO openreserve_reader;


-- The earliest deadline of the HELD items of a resource; null if it has none. If it has passed,
-- there is something to reclaim.
--
-- Returns a set of one row, because the planner inlines only that, and in the query's own snapshot.
CREATE OR REPLACE FUNCTION openreserve.first_deadline(wanted text) RETURNS SETOF timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT min(i.held_until)
      FROM openreserve.reservation_items AS i
     WHERE i.resource_id = wanted AND i.held_until IS NOT NULL;
END;


-- Locks a hold, then reads the clock: passed says whether its deadline has passed at that moment,
-- and is null if the reservation does not exist or is settled. Such a repeat locks nothing.
--
-- By settled_at IS NULL instead of status = 'HELD', which means the same: for the latter, while
-- statistics say that few rows are HELD, the planner may scan the whole index by deadline.
CREATE OR REPLACE FUNCTION openreserve.lock_hold(
    IN wanted uuid, OUT moment timestamptz, OUT passed boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz;
BEGIN
    SELECT r.expires_at INTO deadline
      FROM openreserve.reservations AS r
     WHERE r.token = wanted AND r.settled_at IS NULL
       FOR UPDATE;
    moment := clock_timestamp();
    passed := openreserve.deadline_passed(deadline, moment);
END
$$;
