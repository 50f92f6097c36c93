"""A misbehaving server costs its own delivery a bounded time and memory, and no other delivery."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from openreserve.domain.webhooks import Endpoint
from openreserve.webhooks import sender
from openreserve.webhooks.endpoints import new_secret
from openreserve.webhooks.sender import NotReached, Reply
from tests.conftest import forget
from tests.support.receiver import CommandError, Server, Talk, hold_the_line, listening, receiving

BUFFERS_BYTES_MAX = 16 << 20
"""An amount of data that fits into the buffers of the two sockets."""


@pytest.fixture(autouse=True)
def _development(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deliveries to this machine are allowed, with a timeout of one second."""
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "1")
    monkeypatch.setenv("WEBHOOK_TIMEOUT_SECONDS", "1")
    forget()
    yield
    forget()


async def post(url: str) -> Reply:
    return await sender.post(Endpoint("shop", url, (), (new_secret(),)), "an-id", "{}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    with listening() as other, receiving() as receiver:
        location = f"http://127.0.0.1:{other.port}/"
        receiver.answers["/events"] = CommandError(status, {"location": location})

        assert (await post(f"{receiver.url}/events")).status == status

    assert (other.connections, len(receiver.received)) == (0, 1)


@pytest.mark.parametrize(
    ("url_path", "path"),
    [("", "/"), ("/a;b=1/c;d?e=%20f;g&h", "/a;b=1/c;d?e=%20f;g&h"), ("?x", "/?x")],
)
async def test_the_request_has_the_whole_path_of_the_url(url_path: str, path: str) -> None:
    with receiving() as receiver:
        await post(receiver.url + url_path)

    assert [each.path for each in receiver.received] == [path]


def drip(connection: socket.socket, _: Server) -> None:
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def drip_headers(connection: socket.socket, _: Server) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: y\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("talk", [hold_the_line, drip, drip_headers])
async def test_a_server_that_stalls_costs_at_most_the_timeout(talk: Talk) -> None:
    with listening(talk) as server, pytest.raises(NotReached, match="answer within 1 s"):
        await post(f"http://127.0.0.1:{server.port}/")


def head_without_end(connection: socket.socket, server: Server) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        server.sent_bytes += connection.send(b"x: y\r\n" * 10_000)


async def test_an_endless_response_head_is_read_up_to_a_limit() -> None:
    with listening(head_without_end) as server, pytest.raises(NotReached, match="too long"):
        await post(f"http://127.0.0.1:{server.port}/")

    assert server.sent_bytes < BUFFERS_BYTES_MAX


def without_end(connection: socket.socket, server: Server) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
    while True:
        server.sent_bytes += connection.send(b"x" * 65_536)


async def test_an_endless_response_body_is_not_read() -> None:
    with listening(without_end) as server:
        assert (await post(f"http://127.0.0.1:{server.port}/")).status == 200

    assert server.sent_bytes < BUFFERS_BYTES_MAX


async def test_a_hanging_name_server_delays_no_other_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lookup cannot be cancelled: it occupies its thread until the name server responds."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(6))  # as on Lambda
    hanging, many_hang, done = count(1), asyncio.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: str, *others: Any, **named: Any) -> Any:
        if host == "hangs.example":
            if next(hanging) == 6:
                loop.call_soon_threadsafe(many_hang.set)
            done.wait()
        return look_up("127.0.0.1", *others, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with receiving() as receiver:
        others = [asyncio.create_task(post("http://hangs.example:9/")) for _ in range(20)]
        try:
            await many_hang.wait()

            assert (await post(receiver.url)).status == 204
        finally:
            done.set()
            failures = await asyncio.gather(*others, return_exceptions=True)

    assert {type(failure) for failure in failures} == {NotReached}
