"""Batches of totals, adjustments with a reason, lists of reservations and newest events."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from openreserve.postgres.sql import statements
from tests.conftest import Engine, forget
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import (
    Reply,
    adjust_stock,
    available,
    call,
    commit,
    hold,
    list_events,
    list_reservations,
    read_resource,
    release,
    reserve,
    set_stock,
    set_stock_of_many,
)
from tests.support.postgres_tap import tapped

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def callers(servers: Engine) -> Iterator[Crowd]:
    with crowd(servers, 4) as callers:
        yield callers


def outcomes(reply: Reply) -> list[str]:
    assert reply.status == 200, reply
    return [row["outcome"] for row in reply.json["results"]]


def test_a_batch_creates_updates_and_leaves_resources_unchanged(name: str) -> None:
    set_stock(f"{name}-old", 5)
    set_stock(f"{name}-same", 7)

    reply = set_stock_of_many((f"{name}-new", 3), (f"{name}-old", 6), (f"{name}-same", 7))

    assert outcomes(reply) == ["created", "changed", "unchanged"]
    assert [read_resource(f"{name}-{which}").json["totalStock"] for which in ("new", "old")] == [
        3,
        6,
    ]
    assert read_resource(f"{name}-same").json["version"] == 1


def test_a_repeated_batch_changes_nothing(name: str) -> None:
    rows = [(f"{name}-{number}", number) for number in range(20)]

    assert set(outcomes(set_stock_of_many(*rows))) == {"created"}
    assert set(outcomes(set_stock_of_many(*rows))) == {"unchanged"}


def test_a_refused_row_does_not_affect_the_other_rows(name: str) -> None:
    set_stock(f"{name}-sold", 5)
    commit(hold((f"{name}-sold", 4)))

    reply = set_stock_of_many(
        (f"{name}-1", 1),
        ("a/b", 1),
        (f"{name}-sold", 3),
        (f"{name}-2", -1),
        (f"{name}-3", "many"),
        (f"{name}-4", True),
        (None, None),
        (f"{name}-5", 10**12 + 1),
        (f"{name}-6", 2),
    )

    assert outcomes(reply) == [
        "created",
        "body_invalid",
        "below_allocated",
        *["body_invalid"] * 5,
        "created",
    ]
    assert reply.json["results"][1]["errors"][0]["pointer"] == "/resourceId"
    assert reply.json["results"][2]["allocatedStock"] == 4
    assert available(f"{name}-1") == 1
    assert available(f"{name}-6") == 2


def test_the_last_of_two_rows_of_one_resource_counts(name: str) -> None:
    reply = set_stock_of_many((name, 1), (name, 2), (name, 1))

    assert outcomes(reply) == ["created", "changed", "changed"]
    assert available(name) == 1


def test_a_batch_closes_expired_holds_before_it_refuses_a_row(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    hold((name, 5), ttl_seconds=1)
    engine.sql("SELECT pg_sleep(1.05)")

    assert outcomes(set_stock_of_many((name, 2), (f"{name}-2", 1))) == ["changed", "created"]
    assert available(name) == 2
    assert engine.drift() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"resources": []}, "/resources"),
        ({"resources": [{}] * 501}, "/resources"),
        ({"resources": {}}, "/resources"),
        ({}, "/resources"),
        ({"resources": [{}], "dryRun": True}, "/dryRun"),
    ],
)
def test_a_malformed_batch_is_400(body: Any, pointer: str) -> None:
    reply = call("set-stock-of-many", body)

    assert (reply.status, reply.code) == (400, "body_invalid")
    assert reply.json["errors"][0]["pointer"] == pointer


def test_rows_that_are_not_objects_are_refused_one_by_one() -> None:
    reply = call("set-stock-of-many", {"resources": [1, None, "x", [], {}]})

    assert outcomes(reply) == ["body_invalid"] * 5


def test_a_batch_is_one_round_trip(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 1)
    with tapped(engine.database_url) as wire:
        monkeypatch.setenv("DATABASE_URL", wire.url)
        forget()
        set_stock_of_many(*((f"{name}-{number}", 1) for number in range(100)), (name, 2))

        assert wire.round_trips == 1


def send_batch(rows: tuple[tuple[str, int], ...]) -> list[str]:
    return outcomes(set_stock_of_many(*rows))


def test_batches_of_the_same_rows_in_any_order_never_deadlock(
    engine: Engine, callers: Crowd, name: str
) -> None:
    ids = [f"{name}-{number:02}" for number in range(40)]
    orders = [ids, ids[::-1], ids[20:] + ids[:20], ids[::2] + ids[1::2]]
    tasks = [[tuple((one, total) for one in order)] * 5 for total, order in enumerate(orders)]

    all_outcomes = [
        outcome for batches in callers(send_batch, tasks) for batch in batches for outcome in batch
    ]

    assert len(all_outcomes) == 4 * 5 * 40
    assert set(all_outcomes) <= {"created", "changed", "unchanged"}
    assert all_outcomes.count("created") == 40
    assert engine.drift() == []


def test_an_interrupted_batch_leaves_complete_rows_and_can_be_sent_again(
    engine: Engine, name: str
) -> None:
    set_stock(f"{name}-9", 1)
    with psycopg.connect(engine.owner_url) as other:
        other.execute(
            "SELECT FROM openreserve.resources WHERE resource_id = %s FOR UPDATE", [f"{name}-9"]
        )
        stopped = set_stock_of_many((f"{name}-1", 1), (f"{name}-9", 2), (f"{name}-2", 1))

    assert (stopped.status, stopped.code) == (503, "contention")
    again = set_stock_of_many((f"{name}-1", 1), (f"{name}-9", 2), (f"{name}-2", 1))
    assert outcomes(again) == ["unchanged", "changed", "created"]


def test_a_batch_is_durable_when_it_is_answered(engine: Engine, name: str) -> None:
    on_disk = 0
    with psycopg.connect(engine.owner_url, autocommit=True) as other:
        for number in range(20):
            set_stock_of_many(*((f"{name}-{number}-{row}", 1) for row in range(10)))
            (written,) = other.execute(
                "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()"
            ).fetchall()
            on_disk += written[0]

    assert on_disk > 15  # other processes may have just written as well


def test_stock_added_by_a_batch_or_an_adjustment_is_available_immediately(name: str) -> None:
    set_stock(name, 1)
    hold((name, 1))
    assert reserve((name, 1)).code == "out_of_stock"  # this sets the sold-out marker in Redis
    set_stock_of_many((name, 2))
    hold((name, 1))
    assert reserve((name, 1)).code == "out_of_stock"
    adjust_stock(name, 1)
    hold((name, 1))


def test_lowering_many_totals_to_the_held_units_writes_depleted_events(name: str) -> None:
    set_stock(name, 5)
    hold((name, 2))

    set_stock_of_many((name, 2))

    newest = list_events(newest="true", limit="1").json["events"]
    assert [(event["type"], event["resourceId"]) for event in newest] == [("STOCK_DEPLETED", name)]


def test_an_adjustment_changes_total_and_available_stock(engine: Engine, name: str) -> None:
    set_stock(name, 10)
    hold((name, 3))

    up = adjust_stock(name, 5, reason="found a box").json
    down = adjust_stock(name, -12).json
    stock = read_resource(name).json

    assert (up["totalStock"], down["totalStock"]) == (15, 3)
    assert (stock["totalStock"], stock["availableStock"], stock["heldStock"]) == (3, 0, 3)
    assert stock["version"] == 3
    assert engine.sql(
        "SELECT difference, reason FROM openreserve.adjustments WHERE resource_id = %s"
        " ORDER BY created_at, difference DESC",
        name,
    ) == [(5, "found a box"), (-12, "counted")]
    assert engine.drift() == []


def test_a_repeated_adjustment_changes_nothing_and_returns_the_same_bytes(name: str) -> None:
    set_stock(name, 10)
    key = str(uuid4())

    first = adjust_stock(name, 5, key=key)
    adjust_stock(name, 1)
    again = adjust_stock(name, 5, key=f'"{key}"')

    assert again.text == first.text
    assert again.headers["idempotent-replayed"] == "true"
    assert read_resource(name).json["totalStock"] == 16


def adjust(task: tuple[str, str]) -> Reply:
    resource_id, key = task
    return adjust_stock(resource_id, 5, key=key)


def test_concurrent_duplicates_of_an_adjustment_change_the_total_once(
    engine: Engine, callers: Crowd, name: str
) -> None:
    set_stock(name, 10)
    keys = [f"{name}-{number}" for number in range(10)]

    replies = callers(adjust, [[(name, key) for key in keys]] * callers.size)

    for duplicates in zip(*replies, strict=True):
        assert len({reply.text for reply in duplicates}) == 1
        assert sum("idempotent-replayed" not in reply.headers for reply in duplicates) == 1
    assert read_resource(name).json["totalStock"] == 60
    assert engine.drift() == []


@pytest.mark.parametrize("other", [("x", 5, "counted"), (None, 6, "counted"), (None, 5, "lost")])
def test_a_key_of_another_adjustment_is_422(name: str, other: tuple[str | None, int, str]) -> None:
    set_stock(name, 10)
    key = str(uuid4())
    adjust_stock(name, 5, key=key)

    reply = adjust_stock(other[0] or name, other[1], key=key, reason=other[2])

    assert (reply.status, reply.code) == (422, "idempotency_key_reused")
    assert read_resource(name).json["totalStock"] == 15


def test_an_adjustment_below_held_and_committed_units_is_refused(name: str) -> None:
    set_stock(name, 10)
    commit(hold((name, 3)))
    hold((name, 2))

    reply = adjust_stock(name, -6)

    assert (reply.status, reply.code) == (409, "below_allocated")
    assert (reply.json["totalStock"], reply.json["allocatedStock"]) == (4, 5)
    assert read_resource(name).json["version"] == 1


def test_an_adjustment_closes_expired_holds_before_it_refuses(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    hold((name, 5), ttl_seconds=1)
    engine.sql("SELECT pg_sleep(1.05)")

    assert adjust_stock(name, -3).json["totalStock"] == 2
    assert engine.drift() == []


def test_an_adjustment_of_an_unknown_resource_or_beyond_the_bounds_is_refused(name: str) -> None:
    unknown = adjust_stock(name, 1)
    set_stock(name, 10**12)
    beyond = adjust_stock(name, 1)

    assert (unknown.status, unknown.code) == (404, "resource_not_found")
    assert (beyond.status, beyond.code) == (422, "total_out_of_range")
    assert read_resource(name).json["totalStock"] == 10**12


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"difference": 0}, "/difference"),
        ({"difference": 1.5}, "/difference"),
        ({"difference": 10**12 + 1}, "/difference"),
        ({"reason": ""}, "/reason"),
        ({"reason": " "}, "/reason"),
        ({"reason": "a\0b"}, "/reason"),
        ({"reason": "x" * 501}, "/reason"),
        ({"resourceId": "a/b"}, "/resourceId"),
    ],
)
def test_a_malformed_adjustment_is_400(name: str, change: dict[str, Any], pointer: str) -> None:
    body = {"resourceId": name, "difference": 1, "reason": "counted"} | change
    reply = call("adjust-stock", body)

    assert (reply.status, reply.code) == (400, "body_invalid")
    assert reply.json["errors"][0]["pointer"] == pointer


def walked(**query: str) -> list[tuple[str, str]]:
    """Token and status of every reservation in the list, page by page."""
    listed = []
    while True:
        page = list_reservations(**query).json
        listed += [
            (reservation["token"], reservation["status"]) for reservation in page["reservations"]
        ]
        if "nextCursor" not in page:
            return listed
        query["cursor"] = page["nextCursor"]


def reservations_of_every_status(engine: Engine, name: str) -> dict[str, str]:
    set_stock(name, 100)
    tokens = {hold((name, 1), ttl_seconds=60 + number): "HELD" for number in (3, 1, 2)}
    for _ in range(3):
        tokens[hold((name, 1))] = "COMMITTED"
        tokens[hold((name, 1))] = "RELEASED"
    for token, status in tokens.items():
        if status != "HELD":
            {"COMMITTED": commit, "RELEASED": release}[status](token)
    tokens[hold((name, 1), ttl_seconds=1)] = "EXPIRED"
    engine.sql("SELECT pg_sleep(1.05)")
    return tokens


@pytest.mark.parametrize("limit", ["1", "3", "200"])
def test_the_list_has_each_reservation_once_with_the_status_of_a_read(
    engine: Engine, name: str, limit: str
) -> None:
    tokens = reservations_of_every_status(engine, name)
    query = {"limit": "200"} if limit == "200" else {"limit": limit, "resourceId": name}

    reservations = [entry for entry in walked(**query) if entry[0] in tokens]

    assert dict(reservations) == tokens
    assert len(reservations) == len(tokens)
    for status in ("HELD", "COMMITTED", "RELEASED", "EXPIRED", "CANCELLED"):
        some = [token for token, _ in walked(**query, status=status)]
        assert sorted(set(some) & set(tokens)) == sorted(
            token for token, its in tokens.items() if its == status
        )


def test_holds_are_listed_first_in_order_of_their_deadlines(engine: Engine, name: str) -> None:
    tokens = reservations_of_every_status(engine, name)
    held = [token for token, status in tokens.items() if status == "HELD"]

    first = list_reservations(resourceId=name, limit="4").json["reservations"]

    assert [reservation["status"] for reservation in first] == ["EXPIRED", "HELD", "HELD", "HELD"]
    assert [reservation["token"] for reservation in first[1:]] == [held[1], held[2], held[0]]


def test_a_hold_settled_between_two_pages_is_not_missed(name: str) -> None:
    set_stock(name, 9)
    tokens = [hold((name, 1), ttl_seconds=60 + number) for number in range(4)]

    first = list_reservations(resourceId=name, limit="2").json
    for token in tokens:
        commit(token)
    listed = [reservation["token"] for reservation in first["reservations"]]
    listed += [token for token, _ in walked(resourceId=name, cursor=first["nextCursor"])]

    assert set(listed) == set(tokens)


@pytest.mark.parametrize(
    "query",
    [
        {"status": "held"},
        {"limit": "0"},
        {"limit": "201"},
        {"resourceId": "a/b"},
        {"cursor": "?"},
        {"cursor": "YS9i"},
        {"cursor": "aGVsZCA5OTk5OTk5OTk5OTk5OTkgMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAw"},
        {"customer": "x"},
    ],
)
def test_a_malformed_query_for_reservations_is_400(query: dict[str, str]) -> None:
    reply = list_reservations(**query)

    assert (reply.status, reply.code) == (400, "query_invalid")
    assert reply.json["errors"][0]["pointer"] == f"/{next(iter(query))}"


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("list_held", "reservations_held_by_deadline"),
        ("list_held_of_resource", "reservation_items_held_by_resource"),
        ("list_settled", "reservations_pkey"),
        ("list_settled_of_resource", "reservation_items_settled_by_resource"),
    ],
)
def test_each_list_of_reservations_has_an_index(engine: Engine, statement: str, index: str) -> None:
    parameters = {
        "resource_id": "x",
        "after": "2026-01-01",
        "after_token": UUID(int=0),
        "limit": 5,
    }
    with psycopg.connect(engine.direct_url, prepare_threshold=None) as connection:
        # With few rows, the planner may prefer another plan.
        connection.execute("SET enable_bitmapscan = off; SET enable_sort = off")
        plan = connection.execute(
            f"EXPLAIN {getattr(statements('reservations'), statement)}".encode(), parameters
        ).fetchall()

    assert any(f"using {index}" in line for (line,) in plan), "\n".join(line for (line,) in plan)
    assert not any("Seq Scan" in line for (line,) in plan), plan


def test_the_newest_events_are_read_from_the_end_of_the_index(engine: Engine) -> None:
    with psycopg.connect(engine.direct_url, prepare_threshold=None) as connection:
        plan = connection.execute(
            f"EXPLAIN {statements('events').find_place_before_newest}".encode(), {"count": 5}
        ).fetchall()

    assert any("Index Only Scan Backward using events_pkey" in line for (line,) in plan), plan


def test_a_reserve_does_not_write_to_the_index_of_settled_reservations(engine: Engine) -> None:
    (definition,) = engine.sql(
        "SELECT pg_get_indexdef('openreserve.reservation_items_settled_by_resource'::regclass)"
    )[0]

    assert definition.endswith("WHERE (held_until IS NULL)")


def test_the_newest_events_are_listed_in_order_with_a_cursor(name: str) -> None:
    for number in range(4):
        set_stock(f"{name}-{number}", 1)
        hold((f"{name}-{number}", 1))

    newest = list_events(newest="true", limit="2").json
    set_stock(f"{name}-4", 1)
    hold((f"{name}-4", 1))
    then = list_events(after=newest["cursor"]).json

    assert [event["resourceId"] for event in newest["events"]] == [f"{name}-2", f"{name}-3"]
    assert [event["resourceId"] for event in then["events"]] == [f"{name}-4"]


def test_the_newest_events_and_a_cursor_cannot_be_combined() -> None:
    reply = list_events(newest="true", after=list_events().json["cursor"])

    assert (reply.status, reply.code) == (400, "query_invalid")
