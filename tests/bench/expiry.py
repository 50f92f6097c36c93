"""How late holds are closed: by the prompt path, and by Redis's keyspace notifications."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import psycopg
import redis

from functions.expire import app as expire_app
from openreserve.cache import hints
from openreserve.domain.reservations import Deadline

HOLDS = 10_000
SPREAD_SECONDS = 5.0
AHEAD_SECONDS = 3.0
STAY_SECONDS = 14


ROUNDS = 5
NAP_MS = 1.0


def report(owner_url: str, redis_url: str) -> None:
    """Let 10,000 holds become due within 5 s, both ways in turn, and print how late each was.

    In parallel to each round, an idle process measures for how long the machine itself did
    not run it: a hold cannot be closed while nothing runs.
    """
    ratios: list[float] = []
    lines: list[str] = []
    prompt_p99s_ms: list[float] = []
    for _ in range(ROUNDS):
        with _naps() as pauses_ms:
            prompt_ms = _prompt_lags_ms(owner_url)
        keyspace_ms = _keyspace_lags_ms(redis_url)
        prompt_p99s_ms.append(percentile(prompt_ms, 99))
        ratios.append(prompt_p99s_ms[-1] / percentile(keyspace_ms, 99))
        lines.append(
            f"         prompt: {_summary(prompt_ms)}; keyspace: {_summary(keyspace_ms)};"
            f" the machine paused for up to {max(pauses_ms):.0f} ms"
        )
    print(
        f"{median(ratios):5.2f} x  expiry lag at p99 of the prompt path, to that of keyspace"
        f" notifications; median p99 {median(prompt_p99s_ms):.0f} ms"
    )
    print("\n".join(lines))


def _summary(lags_ms: Sequence[float]) -> str:
    p50, p99, worst = (percentile(lags_ms, percent) for percent in (50, 99, 100))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {worst:.0f} ms, {len(lags_ms)} of {HOLDS}"


@contextmanager
def _naps() -> Iterator[list[float]]:
    """How much longer than it wanted to a process beside this one slept, nap by nap, once over."""
    pauses_ms: list[float] = []
    here, there = get_context("spawn").Pipe()
    sleeper = get_context("spawn").Process(target=_nap_until_stopped, args=(there,), daemon=True)
    sleeper.start()
    try:
        yield pauses_ms
    finally:
        here.send(None)
        pauses_ms += here.recv()
        sleeper.join()


def _nap_until_stopped(stop: Connection) -> None:
    pauses_ms: list[float] = []
    while not stop.poll():
        start = time.perf_counter()
        time.sleep(NAP_MS / 1_000)
        pauses_ms.append((time.perf_counter() - start) * 1_000 - NAP_MS)
    stop.send(pauses_ms)


def _prompt_lags_ms(owner_url: str) -> list[float]:
    """The function as it is, in a thread; the holds written beside it, as a crowd would have."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE openreserve.resources, openreserve.reservations,"
            " openreserve.reservation_items, openreserve.events"
        )
        rows = connection.execute(
            "WITH stock AS ("
            "  INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            "  SELECT 'lag-' || n, 1000000, 1000000 - %(holds)s / 100 FROM generate_series(0, 99) n"
            "), held AS ("
            "  INSERT INTO openreserve.reservations (token, created_at, expires_at)"
            "  SELECT gen_random_uuid(), now(),"
            "         now() + make_interval(secs => %(ahead)s + %(spread)s * n / %(holds)s)"
            "    FROM generate_series(1, %(holds)s) n RETURNING token, expires_at"
            ")"
            "INSERT INTO openreserve.reservation_items (token, resource_id, quantity, held_until)"
            " SELECT token, 'lag-' || row_number() OVER () %% 100, 1, expires_at FROM held"
            " RETURNING token, held_until",
            {"holds": HOLDS, "ahead": AHEAD_SECONDS, "spread": SPREAD_SECONDS},
        ).fetchall()
        for start in range(0, HOLDS, 1_000):
            batch = rows[start : start + 1_000]
            hints.remember_deadlines([Deadline(moment, token) for token, moment in batch])
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            expire_app.handler({}, None)
        return [
            lag_ms
            for (lag_ms,) in connection.execute(
                "SELECT extract(epoch FROM settled_at - expires_at)::float * 1000"
                "  FROM openreserve.reservations WHERE token = ANY (%s) AND status = 'EXPIRED'",
                [[token for token, _ in rows]],
            )
        ]


def _keyspace_lags_ms(redis_url: str) -> list[float]:
    """The same number of keys with the same deadlines, unused otherwise, and a subscriber."""
    lags_ms: list[float] = []
    deadlines: dict[bytes, float] = {}
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.config_set("notify-keyspace-events", "Ex")
        listening = client.pubsub()
        listening.psubscribe("__keyevent@*__:expired")

        def listen() -> None:
            until = time.time() + STAY_SECONDS
            while time.time() < until:
                message = listening.get_message(timeout=0.1)
                if message and message["type"] == "pmessage":
                    lags_ms.append((time.time() - deadlines[message["data"]]) * 1_000)

        start = time.time() + AHEAD_SECONDS
        pipeline = client.pipeline(transaction=False)
        for n in range(HOLDS):
            name, ends_at = f"hold-{n}", start + SPREAD_SECONDS * n / HOLDS
            deadlines[name.encode()] = ends_at
            pipeline.set(name, "", pxat=int(ends_at * 1_000))
        pipeline.execute()
        listener = threading.Thread(target=listen)
        listener.start()
        listener.join()
    return lags_ms


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many of 100 do not exceed."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
