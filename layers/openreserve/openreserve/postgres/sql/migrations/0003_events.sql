-- The outbox. An event is written in the transaction of the change: no event exists for a change
-- that was rolled back, and none is missing for a change that was committed.

CREATE TYPE openreserve.event_type AS ENUM (
    'STOCK_DEPLETED',         -- available_stock reached zero
    'STOCK_RESTORED',         -- a release or an expiry returned units
    'RESERVATION_HELD',       -- this and the following: only with RESERVATION_EVENTS=1
    'RESERVATION_COMMITTED',
    'RESERVATION_RELEASED',
    'RESERVATION_EXPIRED',
    'RESERVATION_CANCELLED'
);

CREATE TABLE openreserve.events (
    -- The transaction, then the order within it. A cursor over one running number would miss events
    -- whose number was taken early and committed late.
    written_by    xid8           NOT NULL DEFAULT pg_current_xact_id(),
    position      bigint         NOT NULL GENERATED ALWAYS AS IDENTITY,
    created_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    value         bigint         NOT NULL,  -- available units; or the quantity of the item
    sequence      bigint,                   -- counts the stock events of the resource, without gaps
    event_id      uuid           NOT NULL DEFAULT gen_random_uuid(),
    type          openreserve.event_type NOT NULL,
    resource_id   text           NOT NULL COLLATE "C",
    tokens        uuid[]         NOT NULL,
    hand_on_after timestamptz DEFAULT clock_timestamp(),  -- the next publish; null: it is published

    CONSTRAINT events_pkey PRIMARY KEY (written_by, position),
    CONSTRAINT events_one_per_sequence UNIQUE (resource_id, sequence),
    CONSTRAINT events_sequence_counts_stock_events
        CHECK ((sequence IS NOT NULL) = (type IN ('STOCK_DEPLETED', 'STOCK_RESTORED'))),
    CONSTRAINT events_value_not_negative CHECK (value >= 0)
);

-- For the purge. Rows are written in time order.
CREATE INDEX events_by_age ON openreserve.events USING brin (created_at);

-- For the publisher. It has only unpublished events, so that it does not grow with history.
CREATE INDEX events_to_hand_on
    ON openreserve.events (hand_on_after) WHERE hand_on_after IS NOT NULL;

GRANT INSERT ON openreserve.events TO openreserve_app;
GRANT UPDATE (hand_on_after) ON openreserve.events TO openreserve_app;
