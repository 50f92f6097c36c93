"""Many clients over few backends, as through RDS Proxy: stock is never oversold."""

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
RELEASING_BUYERS = 100
"""The number of buyers who release their unit again."""
RETRY_SECONDS = 60
RETRYABLE_CODES = {"contention", "database_unavailable", "idempotency_in_progress"}
"""The error codes that the README tells clients to retry."""

LIST_BACKENDS: LiteralString = "SELECT pid FROM pg_stat_activity WHERE usename = 'openreserve_app'"


@dataclass(frozen=True)
class Outcome:
    """The result of a client: the codes it retried, and the last response."""

    retried: Counter[str]
    reply: Reply


@pytest.fixture
def pooled(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pooler]]:
    """Starts a pool between the functions in this process and Postgres, without Redis."""
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
        run_clients(callers, connect, [""] * 20)

        assert len(engine.sql(LIST_BACKENDS)) <= POOL_SIZE
        run_clients(callers, leave, [""] * 20)


def test_the_pool_is_as_strict_as_rds_proxy(pooled: Callable[..., Pooler]) -> None:
    pool = pooled(size=1)

    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(pool.url, options="-c lock_timeout=0")


def test_a_request_without_a_free_backend_is_503_and_a_retry_succeeds(
    pooled: Callable[..., Pooler], name: str
) -> None:
    pool = pooled(size=1, borrow_seconds=1)
    set_stock(name, 1)
    with psycopg.connect(pool.url) as other:
        other.execute("SELECT 1")  # starts a transaction, which keeps the backend
        reply = reserve((name, 1), key=name)

    assert (reply.status, reply.code) == (503, "database_unavailable")
    assert reply.headers["retry-after"] == "1"
    assert reserve((name, 1), key=name).status == 200


@pytest.mark.slow
def test_two_thousand_clients_over_twenty_backends_buy_exactly_the_stock(
    servers: Engine, pooled: Callable[..., Pooler], name: str
) -> None:
    pool = pooled(size=BACKENDS, clients_max=CLIENTS + 100)
    engine = replace(servers, database_url=pool.url, redis_url="")
    with backends_watched(servers) as most_backends, crowd(engine, PROCESSES) as callers:
        set_stock(name, UNITS)
        run_clients(callers, connect, [name] * CLIENTS)
        assert len(pool.show("clients")) >= CLIENTS

        first = run_clients(callers, buy, [(name, f"{name}-{n}") for n in range(CLIENTS)])
        tokens = [result.reply.json["token"] for result in first if result.reply.status == 200]
        verbs = ["release"] * RELEASING_BUYERS + ["commit"] * (UNITS - RELEASING_BUYERS)
        settled = run_clients(
            callers, settle, [*zip(verbs, tokens, strict=True), *[("", "")] * (CLIENTS - UNITS)]
        )
        second = run_clients(callers, buy, [(name, f"{name}-{n}-again") for n in range(CLIENTS)])
        run_clients(callers, leave, [name] * CLIENTS)

    assert outcomes(first) == {"ok": UNITS, "out_of_stock": CLIENTS - UNITS}
    assert len(set(tokens)) == UNITS
    assert outcomes(settled) == {"ok": CLIENTS}
    assert outcomes(second) == {"ok": RELEASING_BUYERS, "out_of_stock": CLIENTS - RELEASING_BUYERS}
    assert {
        code for result in first + settled + second for code in result.retried
    } <= RETRYABLE_CODES
    stock = read_resource(name).json
    assert [stock[count] for count in ("availableStock", "heldStock", "committedStock")] == [
        0,
        RELEASING_BUYERS,
        UNITS - RELEASING_BUYERS,
    ]
    assert servers.drift() == []
    assert max(most_backends) == BACKENDS


def outcomes(results: Sequence[Outcome]) -> Counter[str]:
    return Counter(each.reply.code for each in results)


def connect(resource_id: str) -> Outcome:
    """Read stock: the response of /health may be a second old, and need no connection."""
    return with_retries(lambda: read_resource(resource_id))


def buy(task: tuple[str, str]) -> Outcome:
    resource_id, key = task
    return with_retries(lambda: reserve((resource_id, 1), key=key))


def settle(task: tuple[str, str]) -> Outcome:
    verb, token = task
    verbs: dict[str, Callable[[], Reply]] = {
        "commit": lambda: commit(token),
        "release": lambda: release(token),
        "": lambda: call("health"),  # a client without a unit
    }
    return with_retries(verbs[verb])


def leave(_name: str) -> None:
    connection.disconnect()


def with_retries(ask: Callable[[], Reply]) -> Outcome:
    """Repeat the request while the response is 503, or 409 for a key in progress."""
    retried: Counter[str] = Counter()
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        reply = ask()
        busy = reply.status == 503 or reply.code == "idempotency_in_progress"
        if not busy or time.monotonic() > deadline:
            return Outcome(retried, reply)
        retried[reply.code] += 1
        time.sleep(random.uniform(0.1, 0.5))


def run_clients(
    callers: Crowd, work: Callable[[Task], Result], tasks: Sequence[Task]
) -> list[Result]:
    """Run the task of each client concurrently, each over its own connection."""
    share = len(tasks) // callers.size
    shares = [[tasks[start : start + share]] for start in range(0, len(tasks), share)]
    return [result for ((own),) in callers(partial(at_once, work), shares) for result in own]


def at_once(work: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """The clients of one process: one thread each, reused between rounds."""
    all_there = threading.Barrier(len(tasks))

    def run(task: Task) -> Result:
        all_there.wait(RETRY_SECONDS)
        return work(task)

    return list(clients(len(tasks)).map(run, tasks))


@cache
def clients(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


@contextmanager
def backends_watched(engine: Engine) -> Iterator[list[int]]:
    """The numbers of additional backends, sampled repeatedly."""
    counts: list[int] = []
    done = threading.Event()
    before = set(engine.sql(LIST_BACKENDS))

    def watch() -> None:
        while not done.wait(0.05):
            counts.append(len(set(engine.sql(LIST_BACKENDS)) - before))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield counts
    finally:
        done.set()
        watching.join()
