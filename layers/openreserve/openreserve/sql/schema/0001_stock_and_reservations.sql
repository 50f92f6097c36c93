-- Stock and reservations. For every resource, at every instant:
--     total_stock = available_stock + units of HELD reservations + units of COMMITTED ones.
-- Only available_stock is counted on the row that everybody wants; the other two are sums, so
-- that a commit never waits for a reserve.

-- Each status says what leads to it. Nothing leads back to HELD.
CREATE TYPE openreserve.reservation_status AS ENUM (
    'HELD',       -- reserve
    'COMMITTED',  -- HELD, before its deadline; or EXPIRED, when commit may reacquire the stock
    'RELEASED',   -- HELD, before its deadline
    'EXPIRED',    -- HELD, from its deadline on
    'CANCELLED'   -- COMMITTED
);

-- The hot row. reserve changes available_stock and updated_at, at times event_sequence, none of
-- which is in an index, and the page keeps half of its room free: every change is a HOT update.
CREATE TABLE openreserve.resources (
    total_stock     bigint      NOT NULL,
    available_stock bigint      NOT NULL,
    version         bigint      NOT NULL DEFAULT 1,  -- counts the changes of total_stock
    event_sequence  bigint      NOT NULL DEFAULT 0,  -- counts the events of the stock
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    resource_id     text        NOT NULL COLLATE "C",  -- one order everywhere: that of the bytes

    CONSTRAINT resources_pkey PRIMARY KEY (resource_id),
    CONSTRAINT resources_id_length CHECK (char_length(resource_id) BETWEEN 1 AND 200),
    CONSTRAINT resources_id_has_no_slash CHECK (strpos(resource_id, '/') = 0),
    CONSTRAINT resources_total_in_range CHECK (total_stock BETWEEN 0 AND 1000000000000),
    CONSTRAINT resources_never_oversold CHECK (available_stock >= 0),
    CONSTRAINT resources_never_returned_twice CHECK (available_stock <= total_stock)
) WITH (fillfactor = 50);

CREATE TABLE openreserve.reservations (
    token      uuid           NOT NULL,
    created_at timestamptz(3) NOT NULL,
    expires_at timestamptz(3) NOT NULL,  -- the first instant at which the hold is over
    settled_at timestamptz,
    status     openreserve.reservation_status NOT NULL DEFAULT 'HELD',
    reacquired boolean        NOT NULL DEFAULT false,  -- committed after its deadline

    CONSTRAINT reservations_pkey PRIMARY KEY (token),
    CONSTRAINT reservations_live_for_a_while CHECK (expires_at > created_at),
    CONSTRAINT reservations_held_until_settled CHECK ((status = 'HELD') = (settled_at IS NULL)),
    CONSTRAINT reservations_reacquired_means_committed
        CHECK (NOT reacquired OR status IN ('COMMITTED', 'CANCELLED'))
) WITH (fillfactor = 80);

-- For the purge. What is committed is kept: it is the books.
CREATE INDEX reservations_returned_by_age
    ON openreserve.reservations (settled_at) WHERE status IN ('RELEASED', 'EXPIRED', 'CANCELLED');

-- For the sweep: what is due, in the order of the deadlines. Holds nothing but live rows, so it
-- does not grow with history.
CREATE INDEX reservations_held_by_deadline
    ON openreserve.reservations (expires_at, token) WHERE status = 'HELD';

CREATE TABLE openreserve.reservation_items (
    token       uuid    NOT NULL,
    held_until  timestamptz(3),  -- the reservation's expires_at while it is HELD, else null
    quantity    integer NOT NULL,
    resource_id text    NOT NULL COLLATE "C",

    CONSTRAINT reservation_items_pkey PRIMARY KEY (token, resource_id),
    CONSTRAINT reservation_items_quantity_positive CHECK (quantity > 0),
    CONSTRAINT reservation_items_of_a_reservation
        FOREIGN KEY (token) REFERENCES openreserve.reservations (token) ON DELETE CASCADE
    -- No foreign key to resources: its check would lock the hot row once more in every reserve.
    -- Nobody may delete a resource (roles, below), and reserve takes units only of a row it found.
) WITH (fillfactor = 80);

-- For the reclaim and for GET: the units of one resource that are held, the first to expire first.
CREATE INDEX reservation_items_held_by_resource
    ON openreserve.reservation_items (resource_id, held_until) WHERE held_until IS NOT NULL;

-- What a key answered. Written by the statement that writes the reservation: one key, one hold.
CREATE TABLE openreserve.idempotency_keys (
    token           uuid           NOT NULL,
    created_at      timestamptz(3) NOT NULL,
    expires_at      timestamptz(3) NOT NULL,  -- as first answered; the reservation's own may move
    request_hash    bytea          NOT NULL,
    idempotency_key text           NOT NULL COLLATE "C",

    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (idempotency_key),
    CONSTRAINT idempotency_keys_length CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_keys_hash_is_sha256 CHECK (octet_length(request_hash) = 32)
    -- No foreign key to reservations: each purge of one would look for its key, and a replay needs
    -- nothing but this row.
);

-- For the purge. Rows are written in the order of their time: a few bytes per many pages will do.
CREATE INDEX idempotency_keys_by_age ON openreserve.idempotency_keys USING brin (created_at);

-- A reservation as callers see it: a hold is over at its deadline, whether or not anybody has
-- closed it yet.
CREATE VIEW openreserve.reservations_now AS
SELECT r.token,
       CASE WHEN r.status = 'HELD' AND r.expires_at <= clock_timestamp()
            THEN 'EXPIRED' ELSE r.status END AS status,
       r.expires_at,
       r.reacquired,
       i.resource_ids,
       i.quantities
  FROM openreserve.reservations AS r
 CROSS JOIN LATERAL (
       SELECT array_agg(resource_id ORDER BY resource_id) AS resource_ids,
              array_agg(quantity ORDER BY resource_id) AS quantities
         FROM openreserve.reservation_items
        WHERE token = r.token
       ) AS i;

-- A resource as callers see it: units of holds that are over count as available.
CREATE VIEW openreserve.resources_now AS
SELECT r.resource_id,
       r.total_stock,
       r.available_stock + h.expired AS available_stock,
       h.live AS held_stock,
       r.total_stock - r.available_stock - h.expired - h.live AS committed_stock,
       r.version,
       r.updated_at
  FROM openreserve.resources AS r
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(quantity) FILTER (WHERE held_until <= moment), 0)::bigint AS expired,
              coalesce(sum(quantity) FILTER (WHERE held_until > moment), 0)::bigint AS live
         FROM openreserve.reservation_items
        CROSS JOIN (SELECT clock_timestamp() AS moment OFFSET 0) AS clock  -- read once
        WHERE resource_id = r.resource_id AND held_until IS NOT NULL
       ) AS h;
