"""The relay is killed repeatedly and endpoints fail: no event is lost."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import Aws
from openreserve.cache import connection as cache_connection
from openreserve.postgres import connection as postgres_connection
from openreserve.webhooks import outbox
from tests.conftest import Engine
from tests.e2e.delivering import deliveries_run, save
from tests.support.handlers import call, event_pages, hold, invoke, release, sample, set_stock
from tests.support.receiver import CommandError, Received, Receiver

ROOT = Path(__file__).parents[2]
PAIRS = 500
POISON = 5
ATTEMPTS = 8
SECONDS_MAX = 150
STALE_SECONDS_MAX = 5
"""The endpoint cache of an environment (1 s) plus a call (1 s), with a margin."""


@contextmanager
def relay_killed_at_random() -> Iterator[list[float]]:
    """Run the prompt path, kill and restart it repeatedly, and record the times of the kills."""
    killed: list[float] = []
    over = threading.Event()

    def torment() -> None:
        while not over.is_set():
            relay = subprocess.Popen(
                [sys.executable, "-c", "from functions.expire import app; app.handler({}, None)"],
                cwd=ROOT,
                env=os.environ | {"EXPIRE_STAY_SECONDS": "60"},
                stdout=subprocess.DEVNULL,
            )
            over.wait(random.uniform(1.5, 3))
            relay.kill()
            relay.wait()
            killed.append(time.time())

    tormentor = threading.Thread(target=torment)
    tormentor.start()
    try:
        yield killed
    finally:
        over.set()
        tormentor.join()


def disabled(name: str) -> bool:
    listed = call("list-endpoints").json["webhooks"]
    return any(endpoint["endpointId"] == name and "disabled" in endpoint for endpoint in listed)


def pulled(resource_id: str) -> dict[str, str]:
    """The types of the events of a resource, by id."""
    events = (event for page in event_pages() for event in page.json["events"])
    return {event["id"]: event["type"] for event in events if event["resourceId"] == resource_id}


def until(holds: Callable[[], Any], seconds_max: float = SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def flaky() -> Callable[[Received], CommandError]:
    """Fails 30 % of the calls and times out in 2 %, but never in all attempts of an event."""
    failures: defaultdict[str, int] = defaultdict(int)

    def answer(delivery: Received) -> CommandError:
        lot = random.random()
        if lot > 0.32 or failures[delivery.id] >= ATTEMPTS - 2:
            return CommandError(204)
        failures[delivery.id] += 1
        if lot > 0.3:
            time.sleep(1.5)
        return CommandError(503)

    return answer


class Picky:
    """Refuses the first events that it receives, until it recovers."""

    def __init__(self) -> None:
        self.poison: set[str] = set()
        self.well = threading.Event()

    def __call__(self, delivery: Received) -> CommandError:
        if len(self.poison) < POISON:
            self.poison.add(delivery.id)
        ill = delivery.id in self.poison and not self.well.is_set()
        return CommandError(500 if ill else 204)


async def test_no_event_is_lost_when_the_relay_is_killed_and_endpoints_fail(
    engine: Engine, own_aws: Aws, receiver: Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.sql("UPDATE openreserve.events SET hand_on_after = NULL")
    waits = ",".join("1" * (ATTEMPTS - 1))
    async with deliveries_run(
        own_aws,
        name,
        monkeypatch,
        environments=4,
        WebhookTimeoutSeconds="1",
        WebhookRetrySeconds=waits,
    ):
        await asyncio.to_thread(in_a_thread, engine, receiver, name)


def in_a_thread(engine: Engine, receiver: Receiver, name: str) -> None:
    try:
        torment_and_tell(engine, receiver, name)
    finally:
        postgres_connection.disconnect()
        cache_connection.disconnect()


def torment_and_tell(engine: Engine, receiver: Receiver, name: str) -> None:
    picky = Picky()
    receiver.answers |= {"/flaky": flaky(), "/gone": CommandError(410), "/picky": picky}
    save("flaky", f"{receiver.url}/flaky")
    save("gone", f"{receiver.url}/gone")
    save("picky", f"{receiver.url}/picky", "STOCK_DEPLETED")
    set_stock(name, 1)
    with relay_killed_at_random() as killed:
        for _ in range(PAIRS):
            release(hold((name, 1)))
        ids = pulled(name)
        assert len(ids) == 2 * PAIRS
        until(lambda: len(killed) >= 3)
    # Other relays publish the events of a killed relay when its claim ends: end the claims now.
    engine.sql("UPDATE openreserve.events SET hand_on_after = now() WHERE hand_on_after > now()")
    while outbox.publish():
        pass

    until(lambda: disabled("gone"))
    silent_from = time.time() + STALE_SECONDS_MAX
    # Holds of other tests may expire in the meantime: their events are delivered too.
    until(lambda: set(receiver.ids("/flaky")) >= ids.keys())
    depleted = {event_id for event_id, kind in ids.items() if kind == "STOCK_DEPLETED"}
    until(lambda: set(receiver.ids("/picky")) >= depleted and dead_letters("picky") == picky.poison)
    for event_id in picky.poison:
        assert receiver.ids("/picky")[event_id] >= ATTEMPTS

    picky.well.set()
    before = {event_id: receiver.ids("/picky")[event_id] for event_id in picky.poison}
    resent = call("resend-dead-letters", {"endpointId": "picky"}).json["resent"]
    assert resent >= POISON, "an event that a killed relay published twice has two dead letters"
    until(
        lambda: all(
            receiver.ids("/picky")[event_id] > before[event_id] for event_id in picky.poison
        )
    )

    assert receiver.ids("/gone"), "it received events before its 410"
    time.sleep(max(0, silent_from - time.time()))
    release(hold((name, 1)))
    outbox.publish()
    until(lambda: set(receiver.ids("/flaky")) >= pulled(name).keys())
    assert [
        got for got in receiver.received if got.path == "/gone" and got.came_at > silent_from
    ] == []
    contents = defaultdict(set)
    for got in receiver.received:
        contents[got.id].add(got.content)
    assert all(len(same) == 1 for same in contents.values()), "duplicates are the same event"
    assert dead_letters("picky") <= picky.poison, "only late duplicates may remain"


def dead_letters(endpoint_id: str) -> set[str]:
    event = sample("list-dead-letters")
    event["queryStringParameters"] = {"limit": "200"}
    listed = invoke("list-dead-letters", event).json["deadLetters"]
    return {letter["event"]["id"] for letter in listed if letter["endpointId"] == endpoint_id}
