"""Each invariant is a named constraint, independent of the routines."""

from typing import LiteralString

import psycopg
import pytest

from tests.conftest import Engine
from tests.support.handlers import hold, set_stock

VIOLATIONS: list[tuple[str, LiteralString]] = [
    (
        "resources_never_oversold",
        "UPDATE openreserve.resources SET available_stock = -1 WHERE resource_id = %(name)s",
    ),
    (
        "resources_never_returned_twice",
        (
            "UPDATE openreserve.resources SET available_stock = total_stock + 1"
            " WHERE resource_id = %(name)s"
        ),
    ),
    (
        "resources_total_in_range",
        "UPDATE openreserve.resources SET total_stock = 10 ^ 13 WHERE resource_id = %(name)s",
    ),
    (
        "resources_id_has_no_slash",
        (
            "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            " VALUES ('a/b', 1, 1)"
        ),
    ),
    (
        "resources_id_length",
        (
            "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            " VALUES ('', 1, 1)"
        ),
    ),
    (
        "reservations_held_until_settled",
        "UPDATE openreserve.reservations SET status = 'COMMITTED' WHERE token = %(token)s",
    ),
    (
        "reservations_held_until_settled",
        "UPDATE openreserve.reservations SET settled_at = now() WHERE token = %(token)s",
    ),
    (
        "reservations_live_for_a_while",
        "UPDATE openreserve.reservations SET expires_at = created_at WHERE token = %(token)s",
    ),
    (
        "reservations_reacquired_means_committed",
        "UPDATE openreserve.reservations SET reacquired = true WHERE token = %(token)s",
    ),
    (
        "reservation_items_quantity_positive",
        "UPDATE openreserve.reservation_items SET quantity = 0 WHERE token = %(token)s",
    ),
    (
        "reservation_items_of_a_reservation",
        (
            "INSERT INTO openreserve.reservation_items (token, resource_id, quantity)"
            " VALUES (gen_random_uuid(), %(name)s, 1)"
        ),
    ),
    (
        "idempotency_keys_pkey",
        "INSERT INTO openreserve.idempotency_keys TABLE openreserve.idempotency_keys",
    ),
    (
        "idempotency_keys_hash_is_sha256",
        "UPDATE openreserve.idempotency_keys SET request_hash = 'x' WHERE token = %(token)s",
    ),
    (
        "idempotency_keys_length",
        "UPDATE openreserve.idempotency_keys SET idempotency_key = '' WHERE token = %(token)s",
    ),
    (
        "resources_pkey",
        "INSERT INTO openreserve.resources SELECT * FROM openreserve.resources",
    ),
    (
        "resources_version_positive",
        "UPDATE openreserve.resources SET version = 0 WHERE resource_id = %(name)s",
    ),
    (
        "resources_event_sequence_not_negative",
        "UPDATE openreserve.resources SET event_sequence = -1 WHERE resource_id = %(name)s",
    ),
    (
        "reservations_pkey",
        "INSERT INTO openreserve.reservations SELECT * FROM openreserve.reservations",
    ),
    (
        "reservations_settled_before_the_deadline",
        (
            "UPDATE openreserve.reservations SET status = 'COMMITTED', settled_at = expires_at"
            " WHERE token = %(token)s"
        ),
    ),
    (
        "reservations_settled_before_the_deadline",
        (
            "UPDATE openreserve.reservations SET status = 'RELEASED', settled_at = expires_at"
            " WHERE token = %(token)s"
        ),
    ),
    (
        "reservation_items_pkey",
        "INSERT INTO openreserve.reservation_items SELECT * FROM openreserve.reservation_items",
    ),
    (
        "reservation_items_held_or_returned",
        "UPDATE openreserve.reservation_items SET returned = true WHERE token = %(token)s",
    ),
    (
        "events_pkey",
        (
            "INSERT INTO openreserve.events OVERRIDING SYSTEM VALUE"
            " SELECT * FROM openreserve.events WHERE resource_id = %(name)s"
        ),
    ),
    (
        "events_one_per_sequence",
        (
            "INSERT INTO openreserve.events (type, resource_id, value, sequence, tokens)"
            " VALUES ('STOCK_DEPLETED', %(name)s, 0, 1, '{}')"
        ),
    ),
    (
        "events_sequence_counts_stock_events",
        "UPDATE openreserve.events SET type = 'RESERVATION_HELD' WHERE resource_id = %(name)s",
    ),
    (
        "events_value_not_negative",
        "UPDATE openreserve.events SET value = -1 WHERE resource_id = %(name)s",
    ),
    ("audit_pkey", "INSERT INTO openreserve.audit DEFAULT VALUES"),
    ("audit_has_one_row", "INSERT INTO openreserve.audit (only_row) VALUES (false)"),
    (
        "adjustments_pkey",
        (
            "INSERT INTO openreserve.adjustments"
            " (idempotency_key, resource_id, difference, total_stock, reason)"
            " SELECT 'twice', %(name)s, 1, 1, 'x' FROM generate_series(1, 2)"
        ),
    ),
    *(
        (
            constraint,
            (
                "INSERT INTO openreserve.adjustments"
                " (idempotency_key, resource_id, difference, total_stock, reason)"
                f" VALUES ({values})"
            ),
        )
        for constraint, values in (
            ("adjustments_key_length", "'', %(name)s, 1, 1, 'x'"),
            ("adjustments_change_something", "%(name)s, %(name)s, 0, 1, 'x'"),
            ("adjustments_total_not_negative", "%(name)s, %(name)s, -1, -1, 'x'"),
            ("adjustments_reason_length", "%(name)s, %(name)s, 1, 1, ''"),
        )
    ),
    *(
        (
            constraint,
            (
                "INSERT INTO openreserve.repairs (resource_id, difference, marks_mended, reason)"
                f" VALUES (%(name)s, {values})"
            ),
        )
        for constraint, values in (
            ("repairs_change_something", "0, 0, 'x'"),
            ("repairs_reason_length", "1, 0, ''"),
        )
    ),
    ("reclaims_closed_something", "INSERT INTO openreserve.reclaims (closed) VALUES (0)"),
    ("migrations_pkey", "INSERT INTO openreserve.migrations TABLE openreserve.migrations"),
    ("routines_pkey", "INSERT INTO openreserve.routines TABLE openreserve.routines"),
]

NOT_VIOLATED = {"repairs_pkey", "reclaims_pkey"}
"""Primary keys that are GENERATED ALWAYS AS IDENTITY."""


@pytest.mark.parametrize(("constraint", "statement"), VIOLATIONS)
def test_a_named_constraint_refuses_each_violation(
    engine: Engine, name: str, constraint: str, statement: LiteralString
) -> None:
    set_stock(name, 5)
    hold((name, 4))
    parameters = {"name": name, "token": hold((name, 1))}

    with psycopg.connect(engine.owner_url) as connection:
        with pytest.raises(psycopg.IntegrityError) as violation:
            connection.execute(statement, parameters)
        assert violation.value.diag.constraint_name == constraint
        connection.rollback()


def test_every_constraint_is_violated_above(engine: Engine) -> None:
    constraints = engine.sql(
        "SELECT conname FROM pg_constraint"
        " WHERE connamespace = 'openreserve'::regnamespace AND contype <> 'n'"
    )

    assert {name for (name,) in constraints} == {name for name, _ in VIOLATIONS} | NOT_VIOLATED
