-- How many holds were closed because somebody wanted their stock, for the metrics: neither sweep has
-- seen them. A row each time, since a counter would be one more row that everybody wants.
CREATE TABLE openreserve.reclaims (
    reclaim_id bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    closed     integer NOT NULL,
    CONSTRAINT reclaims_pkey PRIMARY KEY (reclaim_id),
    CONSTRAINT reclaims_closed_something CHECK (closed > 0)
);

-- As in 0003, and writes down how many it closed.
CREATE OR REPLACE FUNCTION openreserve.reclaim(wanted_resource_id text, batch_size integer)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    tokens uuid[];
    count  integer;
BEGIN
    SELECT array_agg(due.token)
      INTO tokens
      FROM (SELECT i.token
              FROM openreserve.reservation_items AS i
             WHERE i.resource_id = wanted_resource_id AND i.held_until <= moment
             ORDER BY i.held_until
             LIMIT batch_size) AS due;

    -- Waits for a holder of these locks instead of skipping them: it is returning this very stock,
    -- so who skipped would only look again, and again. In the order of the tokens, as two reclaims
    -- of one cart can start from different resources.
    PERFORM FROM openreserve.reservations AS r
      WHERE r.token = ANY (tokens)
      ORDER BY r.token
        FOR UPDATE;

    count := coalesce(cardinality(openreserve.close_expired(tokens)), 0);
    IF count > 0 THEN
        INSERT INTO openreserve.reclaims (closed) VALUES (count);
    END IF;
    RETURN count;
END
$$;

-- Takes what was written down, and returns how many holds that were. With its owner's rights: the
-- functions may delete nothing themselves.
CREATE FUNCTION openreserve.take_reclaims() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (DELETE FROM openreserve.reclaims RETURNING closed)
    SELECT coalesce(sum(closed), 0)::bigint FROM taken
$$;

GRANT SELECT ON openreserve.reclaims TO openreserve_app, openreserve_reader;
GRANT INSERT (closed) ON openreserve.reclaims TO openreserve_app;
REVOKE EXECUTE ON FUNCTION openreserve.take_reclaims FROM PUBLIC;
GRANT EXECUTE ON FUNCTION openreserve.take_reclaims TO openreserve_app;
