"""Redis fails in every way during traffic: each hold ends once and returns its stock once."""

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.local import services
from tests.conftest import Engine
from tests.e2e.runtime import Runtime, free_port, started
from tests.support.receiver import receiving

RECONCILE_SECONDS = 60


class Server:
    """A Redis server at a fixed address, which tests kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        binary = services.redis_program()
        assert binary is not None
        self.process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@contextmanager
def stream_of_holds(runtime: Runtime, resource_id: str) -> Iterator[list[str]]:
    """Reserve one unit after the other, with a TTL of one or two seconds."""
    tokens: list[str] = []
    over = threading.Event()

    def reserve() -> None:
        for n in count():
            if over.is_set():
                return
            body = {"resourceId": resource_id, "quantity": 1, "ttlSeconds": 1 + n % 2}
            headers = {"Idempotency-Key": f"{resource_id}-{n}"}
            reply = runtime.call("POST", "/api/v1/reserve", body, headers)
            assert reply.status == 200, reply
            tokens.append(reply.json["token"])

    buyer = threading.Thread(target=reserve)
    buyer.start()
    try:
        yield tokens
    finally:
        over.set()
        buyer.join()


def events(runtime: Runtime, resource_id: str) -> list[Any]:
    listed: list[Any] = []
    after = ""
    while True:
        page = runtime.call("GET", f"/api/v1/events?limit=200&after={after}").json
        if not page["events"]:
            return listed
        listed += [event for event in page["events"] if event["resourceId"] == resource_id]
        after = page["cursor"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


def test_no_hold_is_lost_when_redis_is_flushed_frozen_killed_and_restarted(
    server: Server, servers: Engine, tmp_path: Path, name: str
) -> None:
    variables = {
        "DATABASE_URL": servers.database_url,
        "MIGRATION_URL": servers.owner_url,
        "REDIS_URL": server.url,
    }
    with started(tmp_path, variables=variables) as runtime, receiving() as shop:
        body = {"endpointId": name, "url": f"{shop.url}/hook"}
        assert runtime.call("POST", "/api/v1/webhooks", body).status == 201
        runtime.set_stock(name, 100_000)
        with stream_of_holds(runtime, name) as tokens:
            time.sleep(1.5)
            server.flush()
            time.sleep(1.5)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            server.process.send_signal(signal.SIGCONT)
            time.sleep(1.5)
            server.kill()
            time.sleep(1.5)
            server.start()
            time.sleep(1.5)

        deadline = time.monotonic() + RECONCILE_SECONDS + 20
        while open_holds(servers, tokens):
            assert time.monotonic() < deadline, "the scheduled sweep (reconcile) runs every minute"
            time.sleep(0.5)

        assert len(tokens) > 20
        stock = runtime.stock(name)
        assert (stock["availableStock"], stock["heldStock"]) == (100_000, 0)
        listed = events(runtime, name)
        restored = [event for event in listed if event["type"] == "STOCK_RESTORED"]
        returned = Counter(token for event in restored for token in event["tokens"])
        assert returned == Counter(tokens), "each once"
        assert servers.drift() == []
        while {event["id"] for event in listed} > set(shop.ids("/hook")):
            assert time.monotonic() < deadline, "every event is delivered"
            time.sleep(0.5)


def open_holds(engine: Engine, tokens: list[str]) -> int:
    ((left,),) = engine.sql(
        "SELECT count(*) FROM openreserve.reservations"
        " WHERE token = ANY (%s::uuid[]) AND status = 'HELD'",
        tokens,
    )
    return int(left)
