"""Statements that reach Postgres: one round trip a verb, and none that pins a connection.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-pinning.html
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from functions.stock import app as stock_app
from openreserve.cache import hints
from openreserve.postgres import connection as postgres_connection
from openreserve.runtime.settings import settings
from tests.conftest import Engine, forget
from tests.support.handlers import (
    Reply,
    call,
    commit,
    hold,
    list_resources,
    read_reservation,
    read_resource,
    release,
    reserve,
    set_stock,
)
from tests.support.postgres_tap import Wire, tapped


@pytest.fixture
def wire(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    with tapped(engine.database_url) as wire:
        monkeypatch.setenv("DATABASE_URL", wire.url)
        forget()
        yield wire


def cut_connections(engine: Engine) -> None:
    """Close the connections of the functions, as a failover or a long freeze does."""
    with psycopg.connect(engine.direct_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = 'openreserve_app' AND pid <> pg_backend_pid()"
        )
    engine.wire.cut()  # a pool would keep them open


def connected(wire: Wire) -> Wire:
    """The tap with an open connection and no messages yet."""
    assert call("health").status == 200
    wire.messages.clear()
    return wire


def test_reserve_is_one_round_trip_for_every_outcome(wire: Wire, name: str) -> None:
    set_stock(name, 5)
    set_stock(f"{name}-b", 5)
    connected(wire)

    outcomes: list[Callable[[], Reply]] = [
        lambda: reserve((name, 1), key=name),
        lambda: reserve((name, 1), (f"{name}-b", 1)),
        lambda: reserve((name, 9)),
        lambda: reserve((f"{name}-x", 1)),
        lambda: reserve((name, 1), ttl_seconds=0),
        lambda: reserve((name, 2), key=name),
    ]
    for outcome in outcomes:
        hints.stock_returned(name)  # clears the marker, so that Postgres decides
        wire.messages.clear()
        outcome()
        assert wire.round_trips == 1, wire.statements


def test_reserve_is_one_round_trip_even_when_it_reclaims(
    wire: Wire, engine: Engine, name: str
) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    engine.sql(
        "UPDATE openreserve.reservations SET created_at = '2026-01-01', expires_at = '2026-01-02'"
        " WHERE token = %s",
        token,
    )
    engine.sql(
        "UPDATE openreserve.reservation_items SET held_until = '2026-01-02' WHERE token = %s", token
    )
    connected(wire)

    assert reserve((name, 1)).status == 200
    assert wire.round_trips == 1


@pytest.mark.parametrize("verb", [commit, release, lambda token: commit(token, reacquire=True)])
def test_commit_and_release_are_one_round_trip_each_and_so_are_their_repeats(
    wire: Wire, name: str, verb: Callable[[str], Reply]
) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    connected(wire)

    for round_trips in (1, 2):
        assert verb(token).status == 200
        assert wire.round_trips == round_trips


def test_replays_and_refusals_cached_in_redis_never_reach_postgres(wire: Wire, name: str) -> None:
    set_stock(name, 1)
    reserve((name, 1), key=name)
    reserve((name, 1))
    connected(wire)

    assert reserve((name, 1), key=name).headers["idempotent-replayed"] == "true"
    assert reserve((name, 1)).code == "out_of_stock"
    assert wire.messages == []


def test_nothing_that_pins_a_proxied_connection_is_ever_sent(wire: Wire, name: str) -> None:
    for number in range(8):  # a driver may prepare a statement after five executions
        set_stock(name, 20 + number)
        commit(hold((name, 1)))
        commit(hold((name, 1)), reacquire=True)
        release(hold((name, 1)))
        reserve((name, 1_000))
        read_reservation(hold((name, 1)))
        read_resource(name)
        list_resources(prefix=name)
    postgres_connection.disconnect()
    call("health")

    assert wire.statements
    assert wire.faults == []
    for _, text in wire.statements:
        assert text.split()[0] in ("CALL", "SELECT"), "no BEGIN, no COMMIT: one statement a verb"


def test_every_statement_of_the_functions_is_checked_for_pinning(engine: Engine, name: str) -> None:
    """Checked by the tap that is in front of Postgres in every test."""
    set_stock(name, 1)
    before = engine.wire.statements_seen
    hold((name, 1))

    assert engine.wire.statements_seen == before + 1


@pytest.mark.parametrize(
    ("statement", "fault", "how"),
    [
        ("SET lock_timeout = 0", "SET pins: SET lock_timeout = 0", {}),
        ("SELECT 1", "prepared as _pg3_0: SELECT 1", {"prepare_threshold": 0}),
        ("SELECT 1", "start-up parameters: options", {"options": "-c lock_timeout=0"}),
        (f"SELECT 1 -- {'x' * 16_384}", f"16396 bytes: SELECT 1 -- {'x' * 188} ...", {}),
    ],
)
def test_the_tap_reports_statements_that_pin_a_proxied_connection(
    engine: Engine, statement: str, fault: str, how: dict[str, Any]
) -> None:
    with (
        tapped(engine.direct_url) as wire,
        psycopg.connect(wire.url, autocommit=True, **how) as connection,
    ):
        connection.execute(statement.encode())

        assert wire.faults == [fault]


def test_an_idle_connection_that_was_lost_is_replaced_within_the_request(
    engine: Engine, name: str
) -> None:
    set_stock(name, 5)
    verbs: list[Callable[[], Reply]] = [
        lambda: reserve((name, 1)),
        lambda: read_resource(name),
        lambda: set_stock(name, 6),
        lambda: set_stock(name, 7, **{"if-match": "*"}),  # the read of the version reconnects
    ]
    for verb in verbs:
        cut_connections(engine)
        assert verb().status in (200, 201)


def test_a_conditional_write_with_an_unknown_outcome_is_not_repeated(
    wire: Wire, engine: Engine, name: str
) -> None:
    """The connection breaks after the write was committed and before its answer arrived."""
    etag = set_stock(name, 5).headers["etag"]
    connected(wire)
    wire.lose_answer_to = b"CALL openreserve.set_stock"

    with ThreadPoolExecutor(1) as others:
        cut = others.submit(cut_after_commit, wire, engine, name, total_stock=6)
        reply = set_stock(name, 6, **{"if-match": etag})
        cut.result()

    assert (reply.status, reply.code) == (503, "database_unavailable")
    assert reply.headers["retry-after"] == "1"
    writes = [text for _, text in wire.statements if "openreserve.set_stock" in text]
    assert len(writes) == 1
    repeat = set_stock(name, 6, **{"if-match": etag})
    assert (repeat.status, repeat.code, repeat.json["version"]) == (412, "version_mismatch", 2)


def cut_after_commit(wire: Wire, engine: Engine, name: str, total_stock: int) -> None:
    """Cut the connections when the total is committed, and pass answers on again."""
    statement = "SELECT total_stock FROM openreserve.resources WHERE resource_id = %s"
    until = time.monotonic() + 4
    while engine.sql(statement, name) != [(total_stock,)] and time.monotonic() < until:
        time.sleep(0.01)
    wire.cut()
    wire.lose_answer_to = b""
    wire.lost.clear()


@pytest.mark.usefixtures("engine")
def test_without_postgres_every_verb_is_503_and_health_reports_the_reason(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://openreserve_app@127.0.0.1:1/openreserve")
    forget()

    for reply in (reserve((name, 1)), commit("550e8400-e29b-41d4-a716-446655440000")):
        assert (reply.status, reply.code) == (503, "database_unavailable")
    health = call("health")
    assert (health.status, health.json["postgres"], health.json["redis"]) == (
        503,
        "unavailable",
        "ok",
    )


def test_many_health_checks_make_one_round_trip_a_second(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTH_CACHE_MS", "60000")
    forget()
    first = call("health")
    wire.messages.clear()

    assert [call("health").text for _ in range(50)] == [first.text] * 50
    assert call("health-of-root").text == first.text
    assert wire.messages == []

    stock_app._health.until = 0  # a minute later
    assert call("health").text == first.text
    assert wire.round_trips == 1


def test_a_postgres_outage_is_cached_for_the_same_time(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTH_CACHE_MS", "60000")
    monkeypatch.setenv("DATABASE_URL", "postgresql://openreserve_app@127.0.0.1:1/openreserve")
    forget()
    statuses = [call("health").status for _ in range(3)]
    monkeypatch.setenv("DATABASE_URL", wire.url)
    settings.cache_clear()

    assert statuses == [503] * 3
    assert call("health").status == 503
    stock_app._health.until = 0  # a minute later
    assert call("health").status == 200
