-- Adjustments and repairs by operators, the position of the audit, and the count of reclaims.

-- Adjustments of a total, each with its reason. They are kept: they make a repeat harmless.
CREATE TABLE openreserve.adjustments (
    created_at      timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    difference      bigint         NOT NULL,
    total_stock     bigint         NOT NULL,  -- after the adjustment
    idempotency_key text           NOT NULL COLLATE "C",
    resource_id     text           NOT NULL COLLATE "C",
    reason          text           NOT NULL,

    CONSTRAINT adjustments_pkey PRIMARY KEY (idempotency_key),
    CONSTRAINT adjustments_key_length CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT adjustments_change_something CHECK (difference <> 0),
    CONSTRAINT adjustments_total_not_negative CHECK (total_stock >= 0),
    CONSTRAINT adjustments_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);

-- Repairs of a counter, each with its reason and its operator. They are kept.
CREATE TABLE openreserve.repairs (
    repair_id     bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    difference    bigint      NOT NULL,  -- of available_stock
    marks_mended  bigint      NOT NULL,  -- items whose held_until or returned was wrong
    resource_id   text        NOT NULL COLLATE "C",
    reason        text        NOT NULL,
    repaired_by   text        NOT NULL DEFAULT session_user,

    CONSTRAINT repairs_pkey PRIMARY KEY (repair_id),
    CONSTRAINT repairs_change_something CHECK (difference <> 0 OR marks_mended > 0),
    CONSTRAINT repairs_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);

-- The resource that the audit checked last. The audit starts again after the last resource.
CREATE TABLE openreserve.audit (
    resource_id text    NOT NULL DEFAULT '' COLLATE "C",
    only_row    boolean NOT NULL DEFAULT true,

    CONSTRAINT audit_pkey PRIMARY KEY (only_row),
    CONSTRAINT audit_has_one_row CHECK (only_row)
);
INSERT INTO openreserve.audit DEFAULT VALUES;

-- How many holds each reclaim closed, for the metrics. One row per reclaim, because a counter would
-- be a second hot row.
CREATE TABLE openreserve.reclaims (
    reclaim_id bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    closed     integer NOT NULL,

    CONSTRAINT reclaims_pkey PRIMARY KEY (reclaim_id),
    CONSTRAINT reclaims_closed_something CHECK (closed > 0)
);

GRANT INSERT ON openreserve.adjustments, openreserve.repairs TO openreserve_app;
GRANT UPDATE (resource_id) ON openreserve.audit TO openreserve_app;
GRANT INSERT (closed) ON openreserve.reclaims TO openreserve_app;
