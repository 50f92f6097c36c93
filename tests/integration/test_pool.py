"""Many clients over few backends, as through RDS Proxy: nobody gets more than there is."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import LiteralString, TypeVar

import psycopg
import pytest

from openreserve.postgres import connection
from tests.conftest import POOL_SIZE, Engine, forget
from tests.support import pooler
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import Reply, call, commit, read_resource, release, reserve, set_stock
from tests.support.pooler import Pooler

Task = TypeVar("Task")
Result = TypeVar("Result")

CLIENTS = 2_000
PROCESSES = 8
BACKENDS = 20
UNITS = 500
FICKLE = 100
"""Buyers who got a unit and give it back."""
PATIENCE_SECONDS = 60
ASK_AGAIN = {"contention", "database_unavailable", "idempotency_in_progress"}
"""What the README says to repeat."""

LIST_BACKENDS: LiteralString = "SELECT pid FROM pg_stat_activity WHERE usename = 'openreserve_app'"


@dataclass(frozen=True)
class Heard:
    """What a client was told: what it was asked to repeat for, and the answer."""

    again: Counter[str]
    reply: Reply


@pytest.fixture
def pooled(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pooler]]:
    """Starts a pool that the functions in this process reach Postgres through; without Redis."""
    if pooler.program() is None:
        pytest.skip("needs pgbouncer")
    with ExitStack() as running:

        def start(**settings: int) -> Pooler:
            pool = running.enter_context(
                pooler.pooled(servers.direct_url, servers.state, **settings)
            )
            monkeypatch.setenv("DATABASE_URL", pool.url)
            monkeypatch.setenv("REDIS_URL", "")
            forget()
            return pool

        yield start
        forget()


def test_with_pooled_the_functions_share_five_backends(
    engine: Engine, pytestconfig: pytest.Config
) -> None:
    if not pytestconfig.getoption("--pooled"):
        pytest.skip("without --pooled, each connection has a backend of its own")
    with crowd(engine, 2) as callers:
        everybody(callers, connect, [""] * 20)

        assert len(engine.sql(LIST_BACKENDS)) <= POOL_SIZE
        everybody(callers, leave, [""] * 20)


def test_the_pool_is_as_strict_as_rds_proxy(pooled: Callable[..., Pooler]) -> None:
    pool = pooled(size=1)

    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(pool.url, options="-c lock_timeout=0")


def test_who_gets_no_backend_in_time_is_503_and_a_repeat_wins(
    pooled: Callable[..., Pooler], name: str
) -> None:
    pool = pooled(size=1, borrow_seconds=1)
    set_stock(name, 1)
    with psycopg.connect(pool.url) as other:
        other.execute("SELECT 1")  # begins a transaction, and keeps the backend
        reply = reserve((name, 1), key=name)

    assert (reply.status, reply.code) == (503, "database_unavailable")
    assert reply.headers["retry-after"] == "1"
    assert reserve((name, 1), key=name).status == 200


@pytest.mark.slow
def test_two_thousand_clients_over_twenty_backends_buy_exactly_what_there_is(
    servers: Engine, pooled: Callable[..., Pooler], name: str
) -> None:
    pool = pooled(size=BACKENDS, clients_max=CLIENTS + 100)
    engine = replace(servers, database_url=pool.url, redis_url="")
    with backends_watched(servers) as most_backends, crowd(engine, PROCESSES) as callers:
        set_stock(name, UNITS)
        everybody(callers, connect, [name] * CLIENTS)
        assert len(pool.show("clients")) >= CLIENTS

        first = everybody(callers, buy, [(name, f"{name}-{n}") for n in range(CLIENTS)])
        tokens = [heard.reply.json["token"] for heard in first if heard.reply.status == 200]
        verbs = ["release"] * FICKLE + ["commit"] * (UNITS - FICKLE)
        settled = everybody(
            callers, settle, [*zip(verbs, tokens, strict=True), *[("", "")] * (CLIENTS - UNITS)]
        )
        second = everybody(callers, buy, [(name, f"{name}-{n}-again") for n in range(CLIENTS)])
        everybody(callers, leave, [name] * CLIENTS)

    assert outcomes(first) == {"ok": UNITS, "out_of_stock": CLIENTS - UNITS}
    assert len(set(tokens)) == UNITS
    assert outcomes(settled) == {"ok": CLIENTS}
    assert outcomes(second) == {"ok": FICKLE, "out_of_stock": CLIENTS - FICKLE}
    assert {code for heard in first + settled + second for code in heard.again} <= ASK_AGAIN
    stock = read_resource(name).json
    assert [stock[count] for count in ("availableStock", "heldStock", "committedStock")] == [
        0,
        FICKLE,
        UNITS - FICKLE,
    ]
    assert servers.drift() == []
    assert max(most_backends) == BACKENDS


def outcomes(heard: Sequence[Heard]) -> Counter[str]:
    return Counter(each.reply.code for each in heard)


def connect(_name: str) -> Heard:
    return patiently(lambda: call("health"))


def buy(task: tuple[str, str]) -> Heard:
    resource_id, key = task
    return patiently(lambda: reserve((resource_id, 1), key=key))


def settle(task: tuple[str, str]) -> Heard:
    verb, token = task
    verbs: dict[str, Callable[[], Reply]] = {
        "commit": lambda: commit(token),
        "release": lambda: release(token),
        "": lambda: call("health"),  # who got nothing looks on
    }
    return patiently(verbs[verb])


def leave(_name: str) -> None:
    connection.disconnect()


def patiently(ask: Callable[[], Reply]) -> Heard:
    """Ask again as long as the answer is 503 or 409 for a key that is being answered."""
    again: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        reply = ask()
        busy = reply.status == 503 or reply.code == "idempotency_in_progress"
        if not busy or time.monotonic() > deadline:
            return Heard(again, reply)
        again[reply.code] += 1
        time.sleep(random.uniform(0.1, 0.5))


def everybody(
    callers: Crowd, work: Callable[[Task], Result], tasks: Sequence[Task]
) -> list[Result]:
    """Each client does its task, all at once, each over its own connection."""
    share = len(tasks) // callers.size
    shares = [[tasks[start : start + share]] for start in range(0, len(tasks), share)]
    return [result for ((own),) in callers(partial(at_once, work), shares) for result in own]


def at_once(work: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """The clients of one process: a thread each, the same ones every time."""
    all_there = threading.Barrier(len(tasks))

    def run(task: Task) -> Result:
        all_there.wait(PATIENCE_SECONDS)
        return work(task)

    return list(clients(len(tasks)).map(run, tasks))


@cache
def clients(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


@contextmanager
def backends_watched(engine: Engine) -> Iterator[list[int]]:
    """How many backends there were beyond those from before, looked at again and again."""
    counts: list[int] = []
    over = threading.Event()
    before = set(engine.sql(LIST_BACKENDS))

    def watch() -> None:
        while not over.wait(0.05):
            counts.append(len(set(engine.sql(LIST_BACKENDS)) - before))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield counts
    finally:
        over.set()
        watching.join()
