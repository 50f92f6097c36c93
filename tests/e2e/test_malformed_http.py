"""Any bytes at any speed get an HTTP response or a closed connection.

The clients are raw sockets. Their input must not print a traceback or block other clients.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.http.connections import Limits
from tests.e2e.test_gateway import send, served

WAIT_SECONDS_MAX = 10
HASTY = Limits(header_seconds=0.2, body_seconds=0.2, linger_seconds=0.2)
HASTY_WHEN_IDLE = Limits(idle_seconds=0.2)
SEGMENT = b"x" * 1_000


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(url: str, *parts: bytes) -> list[Response]:
    """Send the bytes, and read until the gateway closes the connection."""
    async with connected(url) as (reader, writer):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.02 if len(parts) > 1 else 0)
        received = await asyncio.wait_for(to_the_end(reader), WAIT_SECONDS_MAX)
    return responses(received)


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the connection is closed, or reset."""
    received = bytearray()
    try:
        while chunk := await reader.read(65_536):
            received += chunk
    except ConnectionError:
        pass
    return bytes(received)


def responses(received: bytes, method: str = "GET") -> list[Response]:
    """Parse the bytes as HTTP responses; h11 raises an error if they are invalid."""
    parsed = []
    while received:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(received)
        client.receive_data(b"")
        head, body = client.next_event(), b""
        while isinstance(head, h11.InformationalResponse):
            head = client.next_event()
        assert isinstance(head, h11.Response)
        while isinstance(data := client.next_event(), h11.Data):
            body += data.data
        headers = {name.decode(): value.decode() for name, value in head.headers}
        parsed.append(Response(head.status_code, headers, body))
        received = client.trailing_data[0]
    return parsed


@pytest.fixture(autouse=True)
def _quiet_console(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """No input of a client may write to the console or the log."""
    caplog.set_level(logging.WARNING)
    yield
    assert caplog.get_records("call") == []
    assert capfd.readouterr() == ("", "")


GET = b"GET /do/echo HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /do/echo HTTP/1.1\r\nHost: x\r\n"

MALFORMED = {
    "no HTTP at all": (b"hello\r\n\r\n", 400, "request_malformed"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, 400, "request_malformed"),
    "a lone NUL": (b"\0", 400, "request_malformed"),
    "HTTP/0.9": (b"GET /do/echo\r\n\r\n", 505, "http_version_unsupported"),
    "no target": (b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "a relative target": (b"GET do/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "NUL in the target": (b"GET /do/\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "an unknown method": (b"BREW /do/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "CONNECT without a target": (b"CONNECT \r\n\r\n", 400, "request_malformed"),
    "an unknown protocol": (b"GET / FTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "a future version": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "the version of HTTP/2": (
        b"GET /do/echo HTTP/2.0\r\nHost: x\r\n\r\n",
        505,
        "http_version_unsupported",
    ),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "request_malformed"),
    "no Host": (b"GET /do/echo HTTP/1.1\r\n\r\n", 400, "request_malformed"),
    "two Hosts": (GET + b"Host: y\r\n\r\n", 400, "request_malformed"),
    "a header without colon": (GET + b"nonsense\r\n\r\n", 400, "request_malformed"),
    "a header with an empty name": (GET + b": x\r\n\r\n", 400, "request_malformed"),
    "a blank before the colon": (GET + b"X-A : x\r\n\r\n", 400, "request_malformed"),
    "NUL in a header": (GET + b"X-A: a\0b\r\n\r\n", 400, "request_malformed"),
    "a header folded over two lines": (GET + b"X-A: a\r\n b\r\n\r\n", 400, "request_malformed"),
    "a bare CR in a header": (GET + b"X-A: a\rb\r\n\r\n", 400, "request_malformed"),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400, "request_malformed"),
    "a length in words": (POST + b"Content-Length: two\r\n\r\nab", 400, "request_malformed"),
    "a length with a sign": (POST + b"Content-Length: +2\r\n\r\nab", 400, "request_malformed"),
    "a length of 30 digits": (
        POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
        400,
        "request_malformed",
    ),
    "two lengths": (
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "request_malformed",
    ),
    "a list of lengths": (POST + b"Content-Length: 2, 2\r\n\r\nab", 400, "request_malformed"),
    "a length and chunks": (
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
        400,
        "request_malformed",
    ),
    "chunks and a length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /",
        400,
        "request_malformed",
    ),
    "chunks that are not the last coding": (
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        400,
        "request_malformed",
    ),
    "a coding beside chunks": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "transfer_encoding_unsupported",
    ),
    "a size of a chunk that is no number": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
        "request_malformed",
    ),
    "a chunk longer than it says": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
        400,
        "request_malformed",
    ),
    "an unknown expectation": (
        POST + b"Content-Length: 0\r\nExpect: the-unexpected\r\n\r\n",
        417,
        "expectation_unsupported",
    ),
    "an expectation that is not UTF-8": (
        POST + b"Content-Length: 0\r\nExpect: \xff\r\n\r\n",
        417,
        "expectation_unsupported",
    ),
    "a long target": (b"GET /do/" + SEGMENT * 9, 414, "uri_too_long"),
    "a target of a megabyte": (b"GET /do/" + SEGMENT * 1_000, 414, "uri_too_long"),
    "a long header": (GET + b"X-A: " + SEGMENT * 11, 431, "headers_too_large"),
    "a long name of a header": (GET + SEGMENT * 11, 431, "headers_too_large"),
    "headers of a megabyte": (GET + b"X-A: " + SEGMENT * 1_000, 431, "headers_too_large"),
    "many headers": (GET + b"X-A: a\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
    "headers that are too large together": (
        GET + (b"X-A: " + SEGMENT + b"\r\n") * 11 + b"\r\n",
        431,
        "headers_too_large",
    ),
}


@pytest.mark.parametrize(("sent", "status", "code"), MALFORMED.values(), ids=list(MALFORMED))
async def test_a_malformed_request_is_refused_with_a_problem_document(
    sent: bytes, status: int, code: str
) -> None:
    async with served() as url:
        (response,) = await exchange(url, sent)
        after = await send(f"{url}/do/echo")

    assert (response.status, response.json["code"]) == (status, code)
    assert response.headers["content-type"].startswith("application/problem+json")
    assert set(response.json) == {
        *("type", "title", "status", "detail", "instance", "code", "requestId"),
    }
    assert after.status == 200


async def test_a_malformed_chunk_after_complete_headers_is_refused_immediately() -> None:
    async with served(limits=HASTY) as url, connected(url) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"nonsense\r\n")
        received = await asyncio.wait_for(to_the_end(reader), WAIT_SECONDS_MAX)
        await asyncio.sleep(0.5)  # longer than the gateway lingers

    (response,) = responses(received)
    assert (response.status, response.json["code"]) == (400, "request_malformed")


async def test_a_header_on_two_lines_reaches_the_function_joined_in_any_case() -> None:
    lines = b"Idempotency-Key: a\r\nX-B: b\r\nidempotency-key: c\r\nConnection: close\r\n\r\n"
    async with served() as url:
        (response,) = await exchange(url, GET + lines)

    assert response.json["headers"]["idempotency-key"] == "a,c"


async def test_an_unknown_path_is_404_without_a_default_route() -> None:
    async with served() as url:
        (response,) = await exchange(url, b"OPTIONS * HTTP/1.0\r\n\r\n")

    assert (response.status, response.json["code"]) == (404, "route_not_found")


async def test_headers_that_are_not_utf_8_reach_the_function_as_question_marks() -> None:
    async with served() as url:
        (response,) = await exchange(url, GET + b"X-A: \xff\xe4\r\nConnection: close\r\n\r\n")

    assert (response.status, response.json["headers"]["x-a"]) == (200, "??")


async def test_pipelined_requests_are_answered_in_order() -> None:
    requests = [b"GET /do/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)]
    last = GET + b"Connection: close\r\n\r\n"
    async with served() as url:
        replies = await exchange(url, b"".join(requests) + last)

    assert [answer.json["pathParameters"]["what"] for answer in replies] == [
        *map(str, range(50)),
        "echo",
    ]


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"GET /do/ec", [], id="half a request line"),
        pytest.param(GET + b"X-A: ", [], id="half a header"),
        pytest.param(POST + b"Content-Length: 9\r\n\r\nab", [408], id="half a body"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\na", [408], id="half a chunk"),
    ],
)
async def test_a_client_that_stops_sending_is_disconnected(
    sent: bytes, statuses: list[int]
) -> None:
    async with served(limits=HASTY) as url:
        replies = await exchange(url, sent)

    assert [response.status for response in replies] == statuses


@pytest.mark.parametrize("further", [b"", b"GET /d"], ids=["no other", "half of another"])
async def test_an_idle_keep_alive_connection_is_closed(further: bytes) -> None:
    async with served(limits=HASTY_WHEN_IDLE) as url:
        replies = await exchange(url, GET + b"\r\n" + further)

    assert [response.status for response in replies] == [200]


async def test_a_content_length_above_the_limit_is_refused_before_the_body_arrives() -> None:
    async with served() as url:
        (response,) = await exchange(url, POST + b"Content-Length: 10485761\r\n\r\n")

    assert (response.status, response.json) == (413, {"message": "Request Entity Too Large"})


async def test_a_client_that_reads_only_after_sending_everything_receives_the_refusal() -> None:
    def sent_and_read(url: str) -> bytes:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS_MAX) as client:
            client.sendall(GET + b"X-A: " + SEGMENT * 8_000)
            return b"".join(iter(lambda: client.recv(65_536), b""))

    async with served() as url:
        (response,) = responses(await asyncio.to_thread(sent_and_read, url))

    assert response.status == 431


@pytest.mark.parametrize(
    ("head", "statuses"),
    [(b"GET /", []), (GET, []), (POST + b"Content-Length: 500\r\n\r\n", [408])],
    ids=["a request line", "headers", "a body"],
)
async def test_a_client_that_sends_single_bytes_is_disconnected(
    head: bytes, statuses: list[int]
) -> None:
    async with served(limits=HASTY) as url, connected(url) as (reader, writer):
        writer.write(head)
        closed = asyncio.ensure_future(to_the_end(reader))
        for _ in range(400):
            writer.write(b"x")
            await asyncio.wait([closed], timeout=0.02)
            if closed.done():
                break
        replies = responses(await asyncio.wait_for(closed, WAIT_SECONDS_MAX))

    assert [response.status for response in replies] == statuses


@pytest.mark.parametrize(
    "sent",
    [POST + b"Content-Length: 9\r\n\r\nab", POST + b"\r\n", GET + b"\r\n" + GET, b"PO"],
    ids=["within a body", "before the answer", "within a second request", "within a first line"],
)
async def test_the_gateway_handles_clients_that_disconnect(sent: bytes) -> None:
    async with served() as url:
        for _ in range(5):
            async with connected(url) as (_, writer):
                writer.write(sent)
                await writer.drain()
                await asyncio.sleep(0.02)
        assert (await send(f"{url}/do/echo")).status == 200


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    limits = Limits(write_seconds=0.2)
    async with served(limits=limits) as url, connected(url) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write((GET.replace(b"echo", b"flood") + b"\r\n") * 20)
        await asyncio.sleep(1)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = await asyncio.wait_for(to_the_end(reader), WAIT_SECONDS_MAX)

    assert received.count(b"HTTP/1.1 200 OK") < 20


async def test_five_hundred_slow_clients_do_not_block_other_clients() -> None:
    limits = Limits(header_seconds=2)
    async with served(limits=limits) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(500)]
        for _, writer in slow:
            writer.write(GET + b"X-A: a")
        replies = await asyncio.gather(*(send(f"{url}/do/echo") for _ in range(20)))
        left = await asyncio.gather(*(to_the_end(reader) for reader, _ in slow))
        for _, writer in slow:
            writer.close()

    assert [reply.status for reply in replies] == [200] * 20
    assert left == [b""] * 500


async def test_connections_beyond_the_limit_get_503_until_one_closes() -> None:
    async with (
        served(limits=Limits(connections=3)) as url,
        connected(url),
        connected(url),
        connected(url) as (_, last),
    ):
        (refusal,) = await exchange(url, b"")
        last.close()
        await last.wait_closed()
        await asyncio.sleep(0.1)
        (answer,) = await exchange(url, GET + b"Connection: close\r\n\r\n")

    assert (refusal.status, refusal.json) == (503, {"message": "Service Unavailable"})
    assert answer.status == 200


def is_answered_or_closed(received: bytes) -> bool:
    """Whether the bytes are HTTP responses with a JSON or problem document."""
    return all(
        response.headers.get("content-type", "").partition(";")[0]
        in ("application/json", "application/problem+json")
        for response in responses(received)
    )


FRAGMENTS = st.sampled_from(
    [
        *(
            GET,
            POST,
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\r",
            b"\0",
            b" ",
            b":",
            b"HTTP/1.1",
            b"HTTP/1.0",
        ),
        *(b"/", b"//", b"/do/", b"%", b"%2F", b"%00", b"%ff", b"?", b"#", b"*", b"http://[", b"@"),
        *(b"OPTIONS ", b"PRI ", b"CONNECT ", b"TRACE ", b"Host: x\r\n", b"Expect: "),
        *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"ffffffff", b"5"),
        *(b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Cookie: a=b; c\r\n"),
        *(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"100-continue"),
        *(b"Connection: close\r\n", b"Sec-WebSocket-Key1: x\r\n", b"Range: bytes=1-\r\n"),
    ]
)
GARBAGE = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=12).map(b"".join)
REQUESTS = st.tuples(
    st.sampled_from([b"GET /", b"GET ", b"POST /do/", b"OPTIONS ", b"DELETE /page"]),
    GARBAGE,
    st.sampled_from([b" HTTP/1.1\r\nHost: x\r\n", b" HTTP/1.0\r\n", b" HTTP/1.1\r\nHost: "]),
    GARBAGE,
    st.sampled_from([b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"]),
    GARBAGE,
).map(b"".join)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(GARBAGE | REQUESTS, min_size=10, max_size=10))
def test_random_bytes_get_an_http_response_or_a_closed_connection(garbage: list[bytes]) -> None:
    async def sent(url: str, garbage: bytes) -> bytes:
        async with connected(url) as (reader, writer):
            writer.write(garbage)
            return await asyncio.wait_for(to_the_end(reader), WAIT_SECONDS_MAX)

    async def run() -> list[bytes]:
        limits = Limits(
            header_seconds=0.05, body_seconds=0.05, idle_seconds=0.05, linger_seconds=0.05
        )
        async with served(stub=True, limits=limits) as url:
            received = await asyncio.gather(*(sent(url, each) for each in garbage))
            assert (await send(f"{url}/do/echo")).status == 200
            return received

    assert all(map(is_answered_or_closed, asyncio.run(run())))
