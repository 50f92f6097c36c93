"""How soon a webhook arrives: after the deadline of its hold, and after the event was written."""

import json
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.expiry import percentile
from tests.e2e.runtime import Runtime, started
from tests.support.receiver import Received, Receiver, receiving

HOLDS = 150
EVERY_SECONDS = 0.1
TTL_SECONDS = 2


def report() -> None:
    """Let holds end one after the other under the whole local runtime, and print the lags."""
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder)) as runtime,
        receiving() as shop,
    ):
        runtime.call("POST", "/api/v1/webhooks", {"endpointId": "shop", "url": f"{shop.url}/hook"})
        _warm_up(runtime, shop)
        deadlines = _holds(runtime)
        until = time.monotonic() + 30
        while len(_ended(shop.received)) < HOLDS and time.monotonic() < until:
            time.sleep(0.1)
        events = [(got, json.loads(got.content)) for got in shop.received]
    ended = _ended(got for got, _ in events)
    arrival_ms = [(ended[token] - deadlines[token]) * 1_000 for token in ended]
    closed_ms = [
        (_moment(event["timestamp"]) - deadlines[token]) * 1_000
        for _, event in events
        if event["type"] == "STOCK_RESTORED"
        for token in event["tokens"]
    ]
    handed_ms = [(got.came_at - _moment(event["timestamp"])) * 1_000 for got, event in events]
    ratio = percentile(arrival_ms, 50) / max(percentile(closed_ms, 50), 1)
    print(f"{ratio:5.2f} x  time from a deadline to its webhook, to that until the hold is closed")
    for title, lags_ms in (
        ("deadline to webhook", arrival_ms),
        ("deadline to closed", closed_ms),
        ("event written to webhook", handed_ms),
    ):
        p50, p99, worst = (percentile(lags_ms, percent) for percent in (50, 99, 100))
        print(
            f"         {title}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {worst:.0f} ms,"
            f" {len(lags_ms)} of them"
        )


def _warm_up(runtime: Runtime, shop: Receiver) -> None:
    """Start environments of every function: how long that takes is not what is measured."""
    for n in range(20):
        runtime.set_stock(f"warm-{n}", 1)
        runtime.reserve(f"warm-{n}", f"warm-{n}")
    while len(shop.ids("/hook")) < 20:
        time.sleep(0.1)
    time.sleep(3)
    shop.received.clear()


def _holds(runtime: Runtime) -> dict[str, float]:
    """Makes the holds, and returns their deadlines by token."""
    runtime.set_stock("bench-webhooks", HOLDS)
    deadlines: dict[str, float] = {}

    def reserve(n: int) -> None:
        body = {"resourceId": "bench-webhooks", "quantity": 1, "ttlSeconds": TTL_SECONDS}
        hold = runtime.call("POST", "/api/v1/reserve", body, {"Idempotency-Key": f"bench-{n}"}).json
        deadlines[hold["token"]] = _moment(hold["expiresAt"])

    threads = []
    for n in range(HOLDS):
        threads.append(threading.Thread(target=reserve, args=(n,)))
        threads[-1].start()
        time.sleep(EVERY_SECONDS)
    for thread in threads:
        thread.join()
    return deadlines


def _ended(deliveries: Any) -> dict[str, float]:
    """When it received the event of each expired hold, by token."""
    received_at: dict[str, float] = {}
    got: Received
    for got in list(deliveries):
        event = json.loads(got.content)
        if event["type"] == "STOCK_RESTORED":
            received_at |= {
                token: got.came_at for token in event["tokens"] if token not in received_at
            }
    return received_at


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
