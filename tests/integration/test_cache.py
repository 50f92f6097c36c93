"""Redis may fail at any moment. That costs speed, never a request and never correctness."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from infra.local import services
from openreserve.cache import hints
from openreserve.cache.cluster import Nodes
from openreserve.domain.errors import OutOfStock
from openreserve.domain.reservations import HoldRequest
from openreserve.domain.resources import Item
from openreserve.postgres import reservations
from tests.conftest import Engine, ask_redis, forget
from tests.support.handlers import available, call, commit, hold, release, reserve, set_stock


@pytest.fixture
def redis(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psutil.Process]:
    """A separate Redis process that the test may kill or freeze."""
    assert engine
    monkeypatch.delenv("REDIS_URL")
    with services.redis(tmp_path) as own:
        monkeypatch.setenv("REDIS_URL", own.url)
        forget()
        yield psutil.Process(int((tmp_path / "redis.pid").read_text()))


@pytest.mark.usefixtures("engine")
def test_redis_keeps_a_deadline_for_the_life_of_the_hold(name: str) -> None:
    set_stock(name, 3)
    committed, released, live = (hold((name, 1)) for _ in range(3))
    commit(committed)
    release(released)

    def deadline(token: str) -> object:
        return ask_redis("ZSCORE", "openreserve:{deadlines}", token)

    assert deadline(live) is not None
    assert deadline(committed) is None
    assert deadline(released) is None


@pytest.mark.usefixtures("engine")
def test_returning_stock_clears_the_sold_out_marker_immediately(name: str) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    assert reserve((name, 1)).code == "out_of_stock"
    assert ask_redis("EXISTS", f"openreserve:{{={name}}}:sold-out") == 1

    release(token)
    assert reserve((name, 1)).status == 200
    assert reserve((name, 1)).code == "out_of_stock"
    set_stock(name, 2)
    assert reserve((name, 1)).status == 200


@pytest.mark.usefixtures("engine")
def test_a_marker_refuses_only_requests_beyond_the_available_stock(name: str) -> None:
    set_stock(name, 2)
    assert reserve((name, 3)).json["items"][0]["available"] == 2

    refused, held = reserve((name, 5)), reserve((name, 2))

    assert refused.json["items"] == [{"resourceId": name, "requested": 5, "available": 2}]
    assert held.status == 200


@pytest.mark.usefixtures("engine")
def test_a_marker_expires_with_the_first_hold(name: str) -> None:
    set_stock(name, 2)
    hold((name, 1), ttl_seconds=1)
    hold((name, 1))
    time.sleep(0.6)
    assert reserve((name, 1)).code == "out_of_stock"

    life_ms = ask_redis("PTTL", f"openreserve:{{={name}}}:sold-out")

    assert isinstance(life_ms, int)
    assert 0 < life_ms <= 400


@pytest.mark.usefixtures("engine")
def test_a_marker_older_than_a_return_of_stock_is_not_written(name: str) -> None:
    """A delayed write of a refusal must not undo a later release."""
    set_stock(name, 1)
    token = hold((name, 1))
    order = HoldRequest(name, bytes(32), (Item(name, 1),), 300)
    recalled = hints.recall(order)
    with pytest.raises(OutOfStock) as refused:
        reservations.reserve(order, uuid4())
    release(token)

    hints.mark_sold_out(order, recalled, refused.value)

    assert reserve((name, 1)).status == 200


@pytest.mark.usefixtures("engine")
def test_a_retry_by_the_buyer_of_the_last_unit_gets_the_same_hold(name: str) -> None:
    set_stock(name, 1)
    first = reserve((name, 1), key=name)
    assert reserve((name, 1)).code == "out_of_stock"

    assert reserve((name, 1), key=name).text == first.text


@pytest.mark.usefixtures("engine")
def test_a_retry_gets_the_last_unit_even_if_redis_never_stored_the_response(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment died between Postgres and Redis. By the retry, all units are sold."""
    set_stock(name, 1)
    with monkeypatch.context() as dying:
        dying.setattr("openreserve.cache.hints.remember_hold", lambda *_: None)
        first = reserve((name, 1), key=name)
    assert reserve((name, 1)).code == "out_of_stock"
    assert ask_redis("EXISTS", f"openreserve:{{={name}}}:sold-out") == 1

    retried = reserve((name, 1), key=name)

    assert (retried.status, retried.text) == (200, first.text)


@pytest.mark.usefixtures("engine")
def test_a_marker_does_not_change_the_order_of_checks(name: str) -> None:
    set_stock(name, 1)
    reserve((name, 1), key=name)
    assert reserve((name, 1)).code == "out_of_stock"

    assert reserve((name, 1), ttl_seconds=0).code == "ttl_out_of_range"
    assert reserve((name, 2), key=name).code == "idempotency_key_reused"


def sequence(name: str) -> None:
    """All calls of a buyer, with their expected responses."""
    set_stock(name, 3)
    first = reserve((name, 1), key=name)
    assert first.status == 200
    assert reserve((name, 1), key=name).text == first.text
    assert reserve((name, 2), key=name).code == "idempotency_key_reused"
    assert commit(first.json["token"]).status == 200
    assert release(hold((name, 2))).status == 200
    assert reserve((name, 3)).code == "out_of_stock"
    assert available(name) == 2


def test_a_killed_redis_loses_no_request(redis: psutil.Process, engine: Engine, name: str) -> None:
    sequence(name)
    redis.kill()
    redis.wait()

    sequence(f"{name}-b")

    health = call("health")
    assert (health.status, health.json["status"], health.json["redis"]) == (
        200,
        "degraded",
        "unavailable",
    )
    assert engine.drift() == []


def test_a_frozen_redis_costs_a_few_milliseconds_a_request(
    redis: psutil.Process, engine: Engine, name: str
) -> None:
    """Count, instead of timing, the calls that wait for the frozen Redis."""
    sequence(name)
    redis.send_signal(signal.SIGSTOP)
    call_times: list[float] = []
    exchange = Nodes.exchange

    def counted(*arguments: Any) -> list[Any]:
        call_times.append(time.monotonic())
        return exchange(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Nodes, "exchange", counted)
        requests = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            sequence(f"{name}-{requests}")
            requests += 1
    redis.send_signal(signal.SIGCONT)

    # Calls at 0, 0.25, 0.75 and 1.75 s: the pauses double. Each waits 50 ms.
    assert 1 <= len(call_times) <= 4
    assert engine.drift() == []


def test_redis_is_used_again_soon_after_it_recovers(redis: psutil.Process, name: str) -> None:
    redis.send_signal(signal.SIGSTOP)
    sequence(name)
    redis.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while hints.ping() is not True:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_flushed_redis_loses_no_request(redis: psutil.Process, engine: Engine, name: str) -> None:
    assert redis.is_running()
    set_stock(name, 2)
    first = reserve((name, 1), key=name)
    ask_redis("FLUSHALL")

    assert reserve((name, 1), key=name).text == first.text
    assert reserve((name, 2)).code == "out_of_stock"
    assert available(name) == 1
    assert engine.drift() == []


def test_a_full_redis_loses_no_request(redis: psutil.Process, engine: Engine, name: str) -> None:
    """Under memory pressure Redis refuses writes. Only speed is lost."""
    assert redis.is_running()
    ask_redis("CONFIG", "SET", "maxmemory", "1")
    ask_redis("CONFIG", "SET", "maxmemory-policy", "noeviction")

    sequence(name)

    assert engine.drift() == []


def test_an_unreachable_redis_loses_no_request(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    forget()

    sequence(name)

    assert engine.drift() == []


def test_every_verb_works_without_redis(engine_without_redis: Engine, name: str) -> None:
    sequence(name)

    assert call("health").json == {"status": "ok", "postgres": "ok", "redis": "not configured"}
    assert engine_without_redis.drift() == []
