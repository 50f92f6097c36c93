"""commit, release and GET in every state: the state matrix of the docs, cell by cell."""

from collections.abc import Callable

import pytest

from openreserve.cache import hints
from tests.conftest import Engine
from tests.support.handlers import (
    Reply,
    available,
    commit,
    hold,
    read_reservation,
    release,
    set_stock,
)

pytestmark = pytest.mark.usefixtures("engine")

UNKNOWN = "550e8400-e29b-41d4-a716-446655440000"


def past(engine: Engine, token: str) -> None:
    """Move the deadline of a hold into the past, and clear its sold-out markers."""
    short = engine.sql(
        "WITH earlier AS (UPDATE openreserve.reservations"
        "                    SET created_at = created_at - interval '1 day',"
        "                        expires_at = clock_timestamp() - interval '1 ms'"
        "                  WHERE token = %s RETURNING token, expires_at)"
        "UPDATE openreserve.reservation_items i SET held_until = e.expires_at"
        "  FROM earlier e WHERE i.token = e.token RETURNING i.resource_id",
        token,
    )
    hints.stock_returned(*(resource_id for (resource_id,) in short))


def in_state(engine: Engine, name: str, state: str) -> str:
    """A reservation of one of two units of `name`, in the given state."""
    set_stock(name, 2)
    if state == "unknown":
        return UNKNOWN
    token = hold((name, 1))
    match state:
        case "HELD past":
            past(engine, token)
        case "EXPIRED":
            past(engine, token)
            release(token)
        case "RELEASED":
            release(token)
        case "COMMITTED":
            commit(token)
        case "CANCELLED":
            commit(token)
            engine.sql(
                "UPDATE openreserve.reservations SET status = 'CANCELLED' WHERE token = %s", token
            )
            engine.sql(
                "UPDATE openreserve.resources SET available_stock = available_stock + 1"
                " WHERE resource_id = %s",
                name,
            )
            engine.sql(
                "UPDATE openreserve.reservation_items SET returned = true WHERE token = %s", token
            )
    return token


def reacquire(token: str) -> Reply:
    return commit(token, reacquire=True)


OK, GONE, CONFLICT, MISSING = 200, 410, 409, 404

MATRIX: dict[Callable[[str], Reply], dict[str, tuple[int, str]]] = {
    commit: {
        "HELD live": (OK, "COMMITTED"),
        "HELD past": (GONE, "hold_expired"),
        "EXPIRED": (GONE, "hold_expired"),
        "RELEASED": (CONFLICT, "already_released"),
        "COMMITTED": (OK, "COMMITTED"),
        "CANCELLED": (CONFLICT, "already_cancelled"),
        "unknown": (MISSING, "reservation_not_found"),
    },
    reacquire: {
        "HELD live": (OK, "COMMITTED"),
        "HELD past": (OK, "COMMITTED"),
        "EXPIRED": (OK, "COMMITTED"),
        "RELEASED": (CONFLICT, "already_released"),
        "COMMITTED": (OK, "COMMITTED"),
        "CANCELLED": (CONFLICT, "already_cancelled"),
        "unknown": (MISSING, "reservation_not_found"),
    },
    release: {
        "HELD live": (OK, "RELEASED"),
        "HELD past": (OK, "EXPIRED"),
        "EXPIRED": (OK, "EXPIRED"),
        "RELEASED": (OK, "RELEASED"),
        "COMMITTED": (CONFLICT, "already_committed"),
        "CANCELLED": (CONFLICT, "already_cancelled"),
        "unknown": (MISSING, "reservation_not_found"),
    },
    read_reservation: {
        "HELD live": (OK, "HELD"),
        "HELD past": (OK, "EXPIRED"),
        "EXPIRED": (OK, "EXPIRED"),
        "RELEASED": (OK, "RELEASED"),
        "COMMITTED": (OK, "COMMITTED"),
        "CANCELLED": (OK, "CANCELLED"),
        "unknown": (MISSING, "reservation_not_found"),
    },
}

CELLS = [(verb, state, *cell) for verb, row in MATRIX.items() for state, cell in row.items()]


@pytest.mark.parametrize(
    ("verb", "state", "status", "word"),
    CELLS,
    ids=[f"{verb.__name__} of {state}" for verb, state, *_ in CELLS],
)
def test_each_cell_of_the_state_matrix_answers_as_documented_and_repeats_it(  # noqa: PLR0913, PLR0917
    engine: Engine, name: str, verb: Callable[[str], Reply], state: str, status: int, word: str
) -> None:
    token = in_state(engine, name, state)

    first, again = verb(token), verb(token)

    outcome = first.json["status"] if first.status == OK else first.json["code"]
    assert (first.status, outcome) == (status, word)
    assert again.status == first.status
    if first.status != OK:
        assert first.json["status"] == first.status, "the problem's, not the reservation's"
    if first.status == OK:
        assert again.text == first.text
    if status == OK and word in ("COMMITTED", "HELD"):
        assert available(name) == 1
    elif outcome != "already_committed":
        assert available(name) == 2
    assert engine.drift() == []


def test_only_a_commit_that_took_stock_again_reports_reacquired(engine: Engine, name: str) -> None:
    expired = in_state(engine, name, "EXPIRED")
    live = hold((name, 1))

    assert reacquire(expired).json["reacquired"] is True
    assert "reacquired" not in reacquire(live).json


def test_a_commit_does_not_reacquire_stock_that_another_hold_has(engine: Engine, name: str) -> None:
    token = in_state(engine, name, "EXPIRED")
    hold((name, 2))

    reply = reacquire(token)

    assert (reply.status, reply.code) == (410, "hold_expired")
    assert reply.json["items"] == [{"resourceId": name, "requested": 1, "available": 0}]
    assert read_reservation(token).json["status"] == "EXPIRED"
    assert engine.drift() == []


def test_a_commit_reacquires_units_of_other_expired_holds(engine: Engine, name: str) -> None:
    token = in_state(engine, name, "EXPIRED")
    past(engine, hold((name, 2)))

    assert reacquire(token).json["status"] == "COMMITTED"
    assert available(name) == 1
    assert engine.drift() == []
