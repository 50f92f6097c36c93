-- Stock and reservations. For every resource, at every instant:
--     total_stock = available_stock + units of HELD reservations + units of COMMITTED ones.
-- Only available_stock is a counter on the hot row. The other two are sums over reservations, so
-- that a commit does not wait for a reserve.
--
-- All routines lock in one order, so that no two transactions deadlock:
--     reservations by token, then an idempotency key, then resources by resource_id.

-- Each status says what leads to it. Nothing leads back to HELD.
CREATE TYPE openreserve.reservation_status AS ENUM (
    'HELD',       -- reserve
    'COMMITTED',  -- HELD, before its deadline; or EXPIRED, if the commit reacquires the stock
    'RELEASED',   -- HELD, before its deadline
    'EXPIRED',    -- HELD, from its deadline on
    'CANCELLED'   -- COMMITTED
);

-- The hot row. A reserve updates available_stock, updated_at and sometimes event_sequence. No index
-- has these columns and half of each page is free, so that every update is a HOT update.
CREATE TABLE openreserve.resources (
    total_stock     bigint      NOT NULL,
    available_stock bigint      NOT NULL,
    version         bigint      NOT NULL DEFAULT 1,  -- counts the changes of total_stock
    event_sequence  bigint      NOT NULL DEFAULT 0,  -- counts the stock events
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    resource_id     text        NOT NULL COLLATE "C",  -- bytewise order, on every server

    CONSTRAINT resources_pkey PRIMARY KEY (resource_id),
    CONSTRAINT resources_id_length CHECK (char_length(resource_id) BETWEEN 1 AND 200),
    CONSTRAINT resources_id_has_no_slash CHECK (strpos(resource_id, '/') = 0),
    CONSTRAINT resources_total_in_range CHECK (total_stock BETWEEN 0 AND 1000000000000),
    CONSTRAINT resources_never_oversold CHECK (available_stock >= 0),
    CONSTRAINT resources_never_returned_twice CHECK (available_stock <= total_stock),
    CONSTRAINT resources_version_positive CHECK (version > 0),
    CONSTRAINT resources_event_sequence_not_negative CHECK (event_sequence >= 0)
) WITH (fillfactor = 50);

CREATE TABLE openreserve.reservations (
    token      uuid           NOT NULL,
    created_at timestamptz(3) NOT NULL,
    expires_at timestamptz(3) NOT NULL,  -- the deadline: from this instant on the hold is over
    settled_at timestamptz,              -- of the last change of status; null while HELD
    status     openreserve.reservation_status NOT NULL DEFAULT 'HELD',
    reacquired boolean        NOT NULL DEFAULT false,  -- committed after its deadline

    CONSTRAINT reservations_pkey PRIMARY KEY (token),
    CONSTRAINT reservations_live_for_a_while CHECK (expires_at > created_at),
    CONSTRAINT reservations_held_until_settled CHECK ((status = 'HELD') = (settled_at IS NULL)),
    CONSTRAINT reservations_reacquired_means_committed
        CHECK (NOT reacquired OR status IN ('COMMITTED', 'CANCELLED')),
    CONSTRAINT reservations_settled_before_the_deadline
        CHECK (status NOT IN ('COMMITTED', 'RELEASED') OR settled_at < expires_at OR reacquired)
) WITH (fillfactor = 80);

-- For the purge. COMMITTED reservations are kept: stock is computed from them.
CREATE INDEX reservations_returned_by_age
    ON openreserve.reservations (settled_at) WHERE status IN ('RELEASED', 'EXPIRED', 'CANCELLED');

-- For the sweep, the list of holds and the deadlines in Redis. It does not grow with history.
CREATE INDEX reservations_held_by_deadline
    ON openreserve.reservations (expires_at, token) WHERE status = 'HELD';

-- held_until and returned repeat what the reservation says, so that sums per resource come from
-- one index without a look at the reservations. The view item_marks says what they must be.
CREATE TABLE openreserve.reservation_items (
    token       uuid    NOT NULL,
    held_until  timestamptz(3),  -- the reservation's expires_at while it is HELD, else null
    quantity    integer NOT NULL,
    resource_id text    NOT NULL COLLATE "C",
    returned    boolean NOT NULL DEFAULT false,  -- the units went back to available_stock

    CONSTRAINT reservation_items_pkey PRIMARY KEY (token, resource_id),
    CONSTRAINT reservation_items_quantity_positive CHECK (quantity > 0),
    CONSTRAINT reservation_items_of_a_reservation
        FOREIGN KEY (token) REFERENCES openreserve.reservations (token) ON DELETE CASCADE,
    CONSTRAINT reservation_items_held_or_returned CHECK (NOT returned OR held_until IS NULL)
    -- No foreign key to resources: its check would lock the hot row a second time in every reserve.
    -- No role may delete a resource, and reserve takes units only from a row that exists.
) WITH (fillfactor = 80);

-- For the reclaim and for GET: the held units of one resource, the earliest deadline first.
CREATE INDEX reservation_items_held_by_resource
    ON openreserve.reservation_items (resource_id, held_until) WHERE held_until IS NOT NULL;

-- For the audit: the committed units of one resource, from the index alone.
CREATE INDEX reservation_items_sold_by_resource
    ON openreserve.reservation_items (resource_id) INCLUDE (quantity)
 WHERE held_until IS NULL AND NOT returned;

-- For the list of one resource's settled reservations. A reserve writes nothing to it.
CREATE INDEX reservation_items_settled_by_resource
    ON openreserve.reservation_items (resource_id, token) WHERE held_until IS NULL;

-- The answer to each Idempotency-Key, written in the transaction of the reservation: one key never
-- makes two holds.
CREATE TABLE openreserve.idempotency_keys (
    token           uuid           NOT NULL,
    created_at      timestamptz(3) NOT NULL,
    expires_at      timestamptz(3) NOT NULL,  -- as first answered; the reservation's own may move
    request_hash    bytea          NOT NULL,
    idempotency_key text           NOT NULL COLLATE "C",

    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (idempotency_key),
    CONSTRAINT idempotency_keys_length CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_keys_hash_is_sha256 CHECK (octet_length(request_hash) = 32)
    -- No foreign key to reservations: each purged reservation would have to look for its key, and
    -- a replay needs only this row.
);

-- For the purge. Rows are written in time order, so that a few bytes per range of pages suffice.
CREATE INDEX idempotency_keys_by_age ON openreserve.idempotency_keys USING brin (created_at);

GRANT INSERT ON openreserve.resources,
                openreserve.reservations,
                openreserve.reservation_items,
                openreserve.idempotency_keys TO openreserve_app;
GRANT UPDATE (total_stock, available_stock, version, event_sequence, updated_at)
   ON openreserve.resources TO openreserve_app;
GRANT UPDATE (status, expires_at, settled_at, reacquired)
   ON openreserve.reservations TO openreserve_app;
GRANT UPDATE (held_until, returned) ON openreserve.reservation_items TO openreserve_app;
