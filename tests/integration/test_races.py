"""Concurrent connections: exactly one wins, and stock changes once."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conftest import Engine
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import (
    Reply,
    available,
    call,
    commit,
    hold,
    read_reservation,
    release,
    reserve,
    set_stock,
)

SIZE = 16


@pytest.fixture(scope="module")
def callers(servers: Engine) -> Iterator[Crowd]:
    with crowd(servers, SIZE) as callers:
        yield callers


@pytest.fixture(scope="module")
def callers_without_redis(servers: Engine) -> Iterator[Crowd]:
    with crowd(replace(servers, redis_url=""), SIZE) as callers:
        yield callers


def buy(task: tuple[str, str]) -> Reply:
    resource_id, key = task
    return reserve((resource_id, 1), key=key)


@pytest.mark.parametrize("redis", ["callers", "callers_without_redis"])
def test_a_hundred_units_are_sold_exactly_a_hundred_times(
    engine: Engine, name: str, redis: str, request: pytest.FixtureRequest
) -> None:
    callers: Crowd = request.getfixturevalue(redis)
    set_stock(name, 100)

    replies = callers(buy, [[(name, f"{name}-{c}-{n}") for n in range(50)] for c in range(SIZE)])

    codes = Counter(reply.code for own in replies for reply in own)
    assert codes == {"ok": 100, "out_of_stock": SIZE * 50 - 100}
    assert available(name) == 0
    assert engine.drift() == []


@pytest.mark.parametrize("redis", ["callers", "callers_without_redis"])
def test_fifty_requests_with_one_key_make_one_hold_and_get_one_answer(
    engine: Engine, name: str, redis: str, request: pytest.FixtureRequest
) -> None:
    callers: Crowd = request.getfixturevalue(redis)
    set_stock(name, 100)

    replies = callers(buy, [[(name, name)] * (4 if c < 2 else 3) for c in range(SIZE)])

    every = [reply for own in replies for reply in own]
    assert len(every) == 50
    assert {(reply.status, reply.text) for reply in every} == {(200, every[0].text)}
    assert sum("idempotent-replayed" not in reply.headers for reply in every) == 1
    assert available(name) == 99
    assert reserve((name, 2), key=name).code == "idempotency_key_reused"
    assert engine.drift() == []


def settle(task: tuple[str, str, float]) -> Reply:
    verb, token, when = task
    time.sleep(max(0, when - time.time()))
    match verb:
        case "commit":
            return commit(token)
        case "reacquire":
            return commit(token, reacquire=True)
        case "release":
            return release(token)
        case "read":
            return read_reservation(token)
    body = {"resourceId": verb, "quantity": 1}  # a buyer of the held unit
    return call("reserve", body, headers={"idempotency-key": f"{verb}-{when}-{random.random()}"})


def test_commit_release_and_the_deadline_race_and_exactly_one_wins(
    engine: Engine, name: str, callers: Crowd
) -> None:
    """All verbs race for each token at its deadline, while others want its unit."""
    rounds = 40
    names = [f"{name}-{n}" for n in range(rounds)]
    for resource_id in names:
        set_stock(resource_id, 1)
    start = time.time() + 2
    tokens = [hold((resource_id, 1), ttl_seconds=3) for resource_id in names]
    verbs = ["commit", "release", "commit", "release", "read", "buy", "commit", "release"] * 2
    deadlines = {
        token: seconds.timestamp()
        for token, seconds in engine.sql(
            "SELECT token::text, expires_at FROM openreserve.reservations"
            " WHERE token = ANY (%s::uuid[])",
            tokens,
        )
    }
    assert min(deadlines.values()) > start

    replies = callers(
        settle,
        [
            [
                (resource_id if verb == "buy" else verb, token, deadlines[token] + spread)
                for resource_id, token in sorted(
                    zip(names, tokens, strict=True), key=lambda pair: deadlines[pair[1]]
                )
            ]
            for verb, spread in ((verb, random.uniform(-0.004, 0.001)) for verb in verbs)
        ],
    )

    order = sorted(zip(names, tokens, strict=True), key=lambda pair: deadlines[pair[1]])
    for position, (resource_id, token) in enumerate(order):
        final = read_reservation(token).json["status"]
        assert final in ("COMMITTED", "RELEASED", "EXPIRED")
        bought = 0
        for verb, own in zip(verbs, replies, strict=True):
            reply = own[position]
            if verb == "buy":
                bought += reply.status == 200
            elif verb == "commit":
                expected = {
                    "COMMITTED": {"ok"},
                    "RELEASED": {"already_released"},
                    "EXPIRED": {"hold_expired"},
                }
                assert reply.code in expected[final], (final, reply)
            elif verb == "release":
                expected = {
                    "COMMITTED": {"already_committed"},
                    "RELEASED": {"ok"},
                    "EXPIRED": {"ok"},
                }
                assert reply.code in expected[final], (final, reply)
        assert bought <= (0 if final == "COMMITTED" else 1)
        assert available(resource_id) == 1 - bought - (final == "COMMITTED")
    assert engine.drift() == []


def cart(task: list[tuple[str, int]]) -> str:
    reply = reserve(*task, ttl_seconds=1)
    if reply.status == 200 and random.random() < 0.7:
        return random.choice([commit, release, release])(reply.json["token"]).code
    return reply.code


def test_carts_in_any_order_never_deadlock(engine: Engine, name: str, callers: Crowd) -> None:
    """Carts of 2 to 20 of 30 resources, often short, so that reclaims happen, too."""
    names = [f"{name}-{n:02}" for n in range(30)]
    for resource_id in names:
        set_stock(resource_id, 60)
    (before,) = engine.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'openreserve'")

    replies = callers(
        cart,
        [
            [
                [(n, random.randint(1, 3)) for n in random.sample(names, random.randint(2, 20))]
                for _ in range(60)
            ]
            for _ in range(SIZE)
        ],
    )

    codes = Counter(code for own in replies for code in own)
    assert set(codes) <= {"ok", "out_of_stock", "hold_expired"}, codes
    assert codes["ok"] > 100
    engine.sql("SELECT pg_stat_force_next_flush()")
    (after,) = engine.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'openreserve'")
    assert after == before, "not even one that was retried inside"
    assert engine.drift() == []


def test_units_of_an_expired_hold_are_each_sold_once(
    engine: Engine, name: str, callers_without_redis: Crowd
) -> None:
    """Reclaims of the same holds wait for each other: no request is refused a returned unit."""
    set_stock(name, SIZE)
    for _ in range(SIZE):
        hold((name, 1), ttl_seconds=1)
    time.sleep(1.1)

    replies = callers_without_redis(buy, [[(name, f"{name}-{c}")] for c in range(SIZE)])

    assert [reply.code for own in replies for reply in own] == ["ok"] * SIZE
    assert engine.drift() == []


def restock(task: tuple[str, int]) -> str:
    resource_id, total = task
    if total:
        return set_stock(resource_id, total).code
    reply = reserve((resource_id, 1))
    return release(reply.json["token"]).code if reply.status == 200 else reply.code


def test_totals_change_during_concurrent_reserves_and_releases(
    engine: Engine, name: str, callers: Crowd
) -> None:
    set_stock(name, 20)

    replies = callers(
        restock,
        [[(name, random.choice([0, 0, 0, 5, 20, 40])) for _ in range(60)] for _ in range(SIZE)],
    )

    codes = {code for own in replies for code in own}
    assert codes <= {"ok", "out_of_stock", "below_allocated"}
    assert engine.drift() == []


@pytest.mark.usefixtures("engine")
def test_concurrent_requests_create_a_resource_once(name: str, callers: Crowd) -> None:
    replies = callers(restock, [[(name, 7)]] * SIZE)

    assert [code for own in replies for code in own] == ["ok"] * SIZE
    assert available(name) == 7
