"""A hold expires at its deadline by the clock of Postgres, without any sweep."""

import time

import psycopg
import pytest

from tests.conftest import Engine, beside, forget
from tests.integration.test_settle import past
from tests.support.handlers import (
    available,
    commit,
    hold,
    read_reservation,
    read_resource,
    release,
    reserve,
    set_stock,
)


@pytest.fixture(params=["engine", "engine_without_redis"])
def _engine(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(request.param)


@pytest.mark.usefixtures("_engine")
def test_the_last_unit_can_be_sold_as_soon_as_its_hold_expires(name: str) -> None:
    set_stock(name, 1)
    token = hold((name, 1), ttl_seconds=1)
    assert reserve((name, 1)).code == "out_of_stock"
    deadline = read_reservation(token).json["expiresAt"]
    while read_reservation(token).json["status"] == "HELD":
        time.sleep(0.002)

    late = commit(token)
    sold = reserve((name, 1))

    assert (late.status, late.code) == (410, "hold_expired")
    assert late.json["expiresAt"] == deadline
    assert sold.status == 200
    assert read_reservation(token).json["status"] == "EXPIRED"
    assert available(name) == 0


def test_a_read_counts_units_of_expired_holds_as_available(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    past(engine, hold((name, 2)))
    hold((name, 1))

    view = read_resource(name).json

    assert (view["availableStock"], view["heldStock"], view["committedStock"]) == (4, 1, 0)
    (stored,) = engine.sql(
        "SELECT available_stock FROM openreserve.resources WHERE resource_id = %s", name
    )
    assert stored == (2,), "no sweep has closed the hold"


def test_an_expiry_alone_changes_the_etag_of_a_resource(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    token = hold((name, 2))
    before = read_resource(name).headers["etag"]
    past(engine, token)

    assert read_resource(name, **{"if-none-match": before}).status == 200


def test_reserve_closes_as_many_expired_holds_as_it_needs(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLAIM_BATCH_SIZE", "3")
    forget()
    set_stock(name, 10)
    for _ in range(10):
        past(engine, hold((name, 1)))

    assert reserve((name, 10)).status == 200
    assert engine.drift() == []


def test_reclaiming_a_cart_for_one_resource_returns_all_its_resources(
    engine: Engine, name: str
) -> None:
    reclaimed, other = f"{name}-b", f"{name}-a"
    set_stock(reclaimed, 1)
    set_stock(other, 10)
    past(engine, hold((reclaimed, 1), (other, 7)))

    assert reserve((reclaimed, 1)).status == 200
    assert available(other) == 10
    assert engine.drift() == []


def test_ten_expired_holds_of_one_resource_return_ten_units(engine: Engine, name: str) -> None:
    set_stock(name, 30)
    for _ in range(10):
        past(engine, hold((name, 3)))

    assert reserve((name, 30)).status == 200
    assert engine.drift() == []


def test_a_commit_that_waited_past_the_deadline_is_refused(engine: Engine, name: str) -> None:
    """The clock is read after the row lock is acquired, not when the commit arrived."""
    set_stock(name, 1)
    token = hold((name, 1), ttl_seconds=1)
    with psycopg.connect(engine.owner_url) as other:
        other.execute("SELECT FROM openreserve.reservations WHERE token = %s FOR UPDATE", [token])
        replies = []
        time.sleep(0.6)
        waiting = beside(lambda: replies.append(commit(token)))  # well before the deadline
        time.sleep(0.7)
        other.rollback()  # well after the deadline, without changes
        waiting.join()

    assert replies[0].code == "hold_expired"


def test_a_release_after_the_deadline_returns_the_units_once(engine: Engine, name: str) -> None:
    set_stock(name, 2)
    token = hold((name, 1))
    past(engine, token)

    assert [release(token).json["status"] for _ in range(3)] == ["EXPIRED"] * 3
    assert available(name) == 2
    assert engine.drift() == []


def test_lowering_a_total_counts_expired_holds_as_available(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    past(engine, hold((name, 5)))

    assert set_stock(name, 1).json["availableStock"] == 1
    assert engine.drift() == []
