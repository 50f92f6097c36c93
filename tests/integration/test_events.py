"""Events can be pulled: one for each change of stock, in an order that misses none."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from functions.reconcile import app as reconcile_app
from openreserve.postgres.migrations import migrate
from tests.conftest import Engine
from tests.integration.test_settle import past
from tests.support.handlers import (
    Context,
    commit,
    event_pages,
    hold,
    list_events,
    release,
    reserve,
    set_stock,
)


def events(resource_id: str) -> list[Any]:
    """All events of the resource, pulled page by page."""
    all_events = (event for page in event_pages() for event in page.json["events"])
    return [event for event in all_events if event["resourceId"] == resource_id]


def summary(resource_id: str) -> list[tuple[str, int, int | None]]:
    return [(event["type"], event["value"], event.get("sequence")) for event in events(resource_id)]


@pytest.mark.usefixtures("engine")
def test_depleted_and_restored_stock_write_events_with_the_tokens(name: str) -> None:
    set_stock(name, 3)
    first, last = hold((name, 1)), hold((name, 2))
    release(first)
    release(last)
    release(last)

    depleted, *restored = events(name)

    assert depleted == {
        "id": depleted["id"],
        "type": "STOCK_DEPLETED",
        "resourceId": name,
        "value": 0,
        "timestamp": depleted["timestamp"],
        "sequence": 1,
        "tokens": [last],
    }
    assert [(e["type"], e["value"], e["sequence"], e["tokens"]) for e in restored] == [
        ("STOCK_RESTORED", 1, 2, [first]),
        ("STOCK_RESTORED", 3, 3, [last]),
    ]
    assert events(name)[0] == depleted, "a repeated read returns the same event"


@pytest.mark.usefixtures("engine")
def test_refusals_repeats_and_commits_write_no_stock_event(name: str) -> None:
    set_stock(name, 2)
    token = reserve((name, 1), key=name).json["token"]
    reserve((name, 1), key=name)
    reserve((name, 5))
    commit(token)
    commit(token)
    set_stock(name, 7)

    assert events(name) == []


def test_expiry_writes_one_event_on_every_path_that_closes_the_hold(
    engine: Engine, name: str
) -> None:
    set_stock(name, 4)
    by_reconcile = [hold((name, 1)), hold((name, 1))]
    for token in by_reconcile:
        past(engine, token)
    reconcile_app.handler({}, Context())
    by_a_buyer = hold((name, 4))
    past(engine, by_a_buyer)
    hold((name, 4))
    reconcile_app.handler({}, Context())

    written = events(name)

    assert [(e["type"], e["value"]) for e in written] == [
        ("STOCK_RESTORED", 4),
        ("STOCK_DEPLETED", 0),
        ("STOCK_RESTORED", 4),
        ("STOCK_DEPLETED", 0),
    ]
    assert written[0]["tokens"] == sorted(by_reconcile), (
        "two holds, one change of the stock, one event"
    )
    assert written[2]["tokens"] == [by_a_buyer]
    assert engine.drift() == []


@pytest.mark.usefixtures("engine")
def test_a_cart_writes_an_event_for_each_resource(name: str) -> None:
    room, dinner = f"{name}-room", f"{name}-dinner"
    set_stock(room, 1)
    set_stock(dinner, 5)
    token = hold((room, 1), (dinner, 2))
    release(token)

    assert summary(room) == [("STOCK_DEPLETED", 0, 1), ("STOCK_RESTORED", 1, 2)]
    assert summary(dinner) == [("STOCK_RESTORED", 5, 1)]


@pytest.mark.usefixtures("engine")
def test_a_total_that_leaves_no_units_available_writes_an_event(name: str) -> None:
    set_stock(name, 5)
    hold((name, 2))
    set_stock(name, 2)
    set_stock(name, 2)

    assert summary(name) == [("STOCK_DEPLETED", 0, 1)]


def test_an_event_written_early_and_committed_late_is_not_missed(engine: Engine, name: str) -> None:
    """A cursor never passes a transaction that is still open."""
    slow, quick = f"{name}-slow", f"{name}-quick"
    set_stock(slow, 1)
    set_stock(quick, 1)
    start = last_cursor()
    with psycopg.connect(engine.owner_url) as other:
        other.execute(
            "SELECT openreserve.write_stock_event(r, 'STOCK_DEPLETED', '{}')"
            "  FROM openreserve.resources r WHERE resource_id = %s",
            [slow],
        )
        hold((quick, 1))
        early = list_events(after=start).json
        assert early == {"events": [], "cursor": start}, "the quick one waits for the slow one"
        other.commit()

    late = list_events(after=early["cursor"]).json["events"]

    assert [event["resourceId"] for event in late] == [slow, quick]
    engine.sql("DELETE FROM openreserve.events WHERE resource_id = %s", slow)


def last_cursor() -> str:
    after = ""
    while True:
        page = list_events(limit="200", after=after).json
        if not page["events"]:
            return str(page["cursor"])
        after = page["cursor"]


@pytest.mark.usefixtures("engine")
def test_pages_lead_from_one_to_the_next(name: str) -> None:
    start = last_cursor()
    set_stock(name, 1)
    for _ in range(3):
        release(hold((name, 1)))

    first = list_events(after=start, limit="4").json
    second = list_events(after=first["cursor"], limit="4").json
    third = list_events(after=second["cursor"], limit="4").json

    sequences = [event["sequence"] for event in first["events"] + second["events"]]
    assert sequences == [1, 2, 3, 4, 5, 6]
    assert third == {"events": [], "cursor": second["cursor"]}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "query", [{"after": "?"}, {"after": "MS4"}, {"after": "eC55"}, {"limit": "0"}, {"type": "x"}]
)
def test_a_cursor_that_was_never_issued_is_400(query: dict[str, str]) -> None:
    assert list_events(**query).code == "query_invalid"


@pytest.fixture
def with_reservation_events(engine: Engine) -> Iterator[Engine]:
    migrate(engine.owner_url, reservation_events=True)
    yield engine
    migrate(engine.owner_url, reservation_events=False)


def test_with_reservation_events_each_transition_writes_an_event(
    with_reservation_events: Engine, name: str
) -> None:
    set_stock(name, 9)
    commit(hold((name, 2)))
    release(hold((name, 3)))
    past(with_reservation_events, hold((name, 4)))
    reconcile_app.handler({}, Context())

    reservation_events = [event for event in events(name) if "RESERVATION" in event["type"]]

    assert [(event["type"], event["value"]) for event in reservation_events] == [
        ("RESERVATION_HELD", 2),
        ("RESERVATION_COMMITTED", 2),
        ("RESERVATION_HELD", 3),
        ("RESERVATION_RELEASED", 3),
        ("RESERVATION_HELD", 4),
        ("RESERVATION_EXPIRED", 4),
    ]
    assert not any("sequence" in event for event in reservation_events)
    assert with_reservation_events.drift() == []
