"""Starts separate Redis servers on TCP: with TLS, or as the nodes of a cluster."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from redis import Redis, RedisError

from infra.local import services
from tests.support.tls_relay import relayed

START_SECONDS_MAX = 10


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Redis]:
    """A server on 127.0.0.1, and a client of it."""
    binary = services.redis_program()
    assert binary is not None
    port = free_port()
    home = folder / str(port)
    home.mkdir()
    listening = ["--bind", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [binary, *listening, "--save", "", "--dir", home, *options], stdout=subprocess.DEVNULL
    )
    try:
        with Redis(port=port) as client:
            _wait_for(client)
            yield client
    finally:
        process.kill()
        process.wait()


@contextmanager
def redis_with_tls(folder: Path, shown: ssl.SSLContext) -> Iterator[tuple[Redis, int]]:
    """A server behind a TLS relay, since not every build of Redis has TLS.

    Yields a client of the server itself, and the port that accepts only TLS.
    """
    with redis_server(folder) as client, relayed(port_of(client), shown) as port:
        yield client, port


def port_of(client: Redis) -> int:
    return int(client.get_connection_kwargs()["port"])


def free_port() -> int:
    """A free port below 55,000: the port of the cluster bus is 10,000 higher."""
    while True:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = int(taken.getsockname()[1])
        if port < 55_000:
            return port


@contextmanager
def cluster(folder: Path, *slots: tuple[int, int]) -> Iterator[list[Redis]]:
    """A Redis Cluster with one node per range of slots."""
    with ExitStack() as running:
        nodes = [
            running.enter_context(redis_server(folder, "--cluster-enabled", "yes")) for _ in slots
        ]
        for epoch, (node, (first, last)) in enumerate(zip(nodes, slots, strict=True), 1):
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", port_of(nodes[0]))
        for node in nodes:
            _wait_for_cluster(node)
        yield nodes


def _wait_for(client: Redis) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        with suppress(RedisError):
            client.ping()
            return
        assert time.monotonic() < deadline, "redis-server does not start"
        time.sleep(0.02)


def _wait_for_cluster(client: Redis) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
        assert time.monotonic() < deadline, "the cluster does not form"
        time.sleep(0.02)
