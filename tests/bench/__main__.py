"""`make bench`: what a reserve costs, as ratios to a baseline in the same run.

Machines differ and are noisy, so every pair is measured alternately, round by round, and what is
printed is the median of the rounds' ratios. Nothing here passes or fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from uuid import uuid4

import psycopg

from functions.reserve import app as reserve_app
from infra.local import services
from openreserve.cache import hints
from openreserve.postgres.migrations import migrate
from tests.bench import built, expiry, operating, webhooks
from tests.support import handlers

BODY = '{"resourceId": "bench-hold", "quantity": 1, "ttlSeconds": 300}'
ROUNDS = 7
CALLS = 300

LEAN = "import functions.reserve.app"
EVERYTHING = (
    "import boto3, psycopg, redis, pydantic; boto3.client('sqs', region_name='eu-central-1');"
    "from aws_lambda_powertools import Logger, Metrics;"
    "from aws_lambda_powertools.event_handler import APIGatewayHttpResolver as R;"
    "R(enable_validation=True)"
)


def main() -> None:
    """Measure everything against a Postgres and a Redis of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        services.postgres(Path(folder)) as postgres,
        services.redis(Path(folder)) as redis,
    ):
        migrate(postgres.migration_url)
        os.environ |= {
            "DATABASE_URL": postgres.app_url,
            "REDIS_URL": redis.url,
            "EXPIRE_STAY_SECONDS": str(expiry.STAY_SECONDS),
            "POWERTOOLS_SERVICE_NAME": "openreserve",
        }
        print(f"{postgres.title}; {redis.title}; medians of {ROUNDS} rounds of {CALLS} calls\n")
        _warm_reserve(postgres.app_url)
        _refusals()
        operating.books(_report, postgres.migration_url, postgres.app_url)
        expiry.report(postgres.migration_url, redis.url)
    webhooks.report()
    operating.command_line(_report)
    _cold_start()
    built.start(_report)


def _warm_reserve(database_url: str) -> None:
    handlers.set_stock("bench-hold", 10**9)
    bare = _bare_handler(database_url)
    _report(
        "CPU of this process for one reserve, to that of a bare handler (same SQL, json)",
        lambda: _cpu_seconds(_handler_of_fresh_events()),
        lambda: _cpu_seconds(bare),
    )


def _handler_of_fresh_events() -> Callable[[], object]:
    """Calls of the real handler, with events that are made before the clock runs."""
    events = []
    for _ in range(CALLS):
        event = handlers.sample("reserve")
        event["headers"]["idempotency-key"] = uuid4().hex
        event["body"] = BODY
        events.append(event)
    return lambda: reserve_app.handler(events.pop(), None)


def _bare_handler(database_url: str) -> Callable[[], str]:
    """The least that can be done: parse, one round trip, answer. No checks, no log, no Redis."""
    connection = psycopg.connect(database_url, autocommit=True, prepare_threshold=None)

    def handle() -> str:
        body = json.loads(BODY)
        row = connection.execute(
            "CALL openreserve.reserve(%s, %s, %s, %s::text[], %s::integer[], %s::bigint,"
            " 86400, 100, NULL, NULL, NULL, NULL, NULL, NULL)",
            [uuid4().hex, bytes(32), uuid4(), [body["resourceId"]], [body["quantity"]], 300],
        ).fetchone()
        assert row is not None
        return json.dumps({"token": str(row[1]), "expiresAt": row[2].isoformat()})

    return handle


def _refusals() -> None:
    handlers.set_stock("bench-empty", 0)

    def refused_by_postgres() -> None:
        hints.stock_returned("bench-empty")
        handlers.reserve(("bench-empty", 1))

    def clear_marker() -> None:
        hints.stock_returned("bench-empty")

    _report(
        "time of a refusal by Postgres, to that of one by the sold-out marker",
        lambda: _seconds(refused_by_postgres) - _seconds(clear_marker),
        lambda: _seconds(lambda: handlers.reserve(("bench-empty", 1))),
    )


def _cold_start() -> None:
    _report(
        "import of the reserve handler, to that of boto3, a validating resolver and the rest",
        lambda: _import_seconds(LEAN),
        lambda: _import_seconds(EVERYTHING),
    )


def _report(title: str, measured: Callable[[], float], baseline: Callable[[], float]) -> None:
    measured()
    baseline()
    rounds = [(measured(), baseline()) for _ in range(ROUNDS)]
    ratio = median(one / other for one, other in rounds)
    ours, theirs = (median(column) * 1_000 for column in zip(*rounds, strict=True))
    print(f"{ratio:5.2f} x  {title}\n         {ours:.3f} ms to {theirs:.3f} ms")


def _seconds(call: Callable[[], object]) -> float:
    return _per_call(call, time.perf_counter)


def _cpu_seconds(call: Callable[[], object]) -> float:
    return _per_call(call, time.process_time)


def _per_call(call: Callable[[], object], clock: Callable[[], float]) -> float:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        started = clock()
        for _ in range(CALLS):
            call()
        return (clock() - started) / CALLS


def _import_seconds(statement: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True, cwd=Path(__file__).parents[2])
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


if __name__ == "__main__":
    main()
