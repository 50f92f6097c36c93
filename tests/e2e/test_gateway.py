"""The gateway converts requests and responses as API Gateway does, and reports failed functions."""

import asyncio
import base64
import gzip
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yarl
from aiohttp import web

from infra.local.auth.authorizers import Authorizer, allow_all
from infra.local.http import gateway
from infra.local.http.connections import Limits, Runner
from infra.local.lambdas.pool import Pool
from infra.local.template.model import Function
from tests.support.handlers import Reply

FUNCTIONS = Path(__file__).parent / "functions"
ROUTES = ("POST /do/{what}", "GET /do/{what}")


class Stub:
    """A pool without a process: its result is the event, or the body of the event."""

    function = Function("Stub", FUNCTIONS, "app.handler", 1, 128, {}, (*ROUTES, "$default"), ())

    async def invoke(self, event: bytes) -> bytes:
        if b"/do/answer" in event:
            return str(json.loads(event)["body"]).encode()
        headers = {"content-type": "application/json"}
        answer = {"statusCode": 200, "headers": headers, "body": event.decode()}
        return json.dumps(answer).encode()


@asynccontextmanager
async def served(
    waiting_max: int = 100,
    authorize: Authorizer = allow_all,
    *,
    limits: Limits | None = None,
    stub: bool = False,
) -> AsyncIterator[str]:
    """A gateway with a function that returns its event, or misbehaves."""
    function = Function("Echo", FUNCTIONS / "echoing", "app.handler", 1, 128, {}, ROUTES, ())
    pool = Pool(function, 1, waiting_max, lambda *_: None, {})
    pools = [cast("Pool", Stub())] if stub else [pool]
    app = gateway.application(pools, (), add_pages, authorize, limits)
    runner = Runner(app, limits)
    await pool.start()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1_000)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await pool.stop()
        await runner.cleanup()


def add_pages(app: web.Application) -> None:
    """A page of the runtime itself, which takes GET and HEAD."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<p>a page</p>", content_type="text/html")

    app.router.add_get("/page", page)


async def send(url: str | yarl.URL, method: str = "POST", **options: Any) -> Reply:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as got:
        headers = {name.lower(): value for name, value in got.headers.items()}
        return Reply(got.status, headers, await got.text())


async def test_a_request_becomes_an_event_of_payload_2_0() -> None:
    async with served() as url:
        reply = await send(
            f"{url}/do/an%20echo?x=1&x=2&y=%C3%A4",
            data='{"a": "ä"}'.encode(),
            headers=[("X-One", "1"), ("X-One", "2"), ("Content-Type", "application/json")],
        )
    event = reply.json

    assert event["version"] == "2.0"
    assert event["routeKey"] == "POST /do/{what}"
    assert event["pathParameters"] == {"what": "an echo"}
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ä"}
    assert event["rawQueryString"].startswith("x=1&x=2&y=")
    assert event["headers"]["x-one"] == "1,2"
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": "ä"}', False)
    http = event["requestContext"]["http"]
    assert (http["method"], http["path"]) == ("POST", "/do/an echo")
    assert event["requestContext"]["requestId"]


async def test_a_path_parameter_is_decoded_once() -> None:
    async with served() as url:
        event = (await send(yarl.URL(f"{url}/do/100%2525%2Foff", encoded=True))).json

    assert event["pathParameters"] == {"what": "100%25/off"}


async def test_a_body_that_is_not_utf8_is_base64_encoded() -> None:
    async with served() as url:
        event = (await send(f"{url}/do/echo", data=b"\xff\xfe")).json

    assert (event["body"], event["isBase64Encoded"]) == ("//4=", True)


async def test_the_caller_receives_the_response_of_the_function() -> None:
    async with served() as url:
        reply = await send(f"{url}/do/teapot", "GET")

    assert (reply.status, reply.text, reply.headers["x-tea"]) == (418, "short and stout", "green")


INTERNAL = '{"message":"Internal Server Error"}'
UNAVAILABLE = '{"message":"Service Unavailable"}'
TOO_LARGE = '{"message":"Request Entity Too Large"}'


async def test_a_crash_and_a_timeout_return_the_error_of_api_gateway() -> None:
    async with served() as url:
        crash = await send(f"{url}/do/crash")
        slow = await send(f"{url}/do/sleep")
        well = await send(f"{url}/do/echo")

    assert (crash.status, crash.text) == (500, INTERNAL)
    assert (slow.status, slow.text) == (500, INTERNAL)
    assert crash.headers["content-type"].startswith("application/json")
    assert well.status == 200


async def test_a_full_queue_returns_503_immediately() -> None:
    async with served(waiting_max=2) as url:
        replies = await asyncio.gather(*(send(f"{url}/do/echo") for _ in range(8)))

    assert Counter(reply.status for reply in replies) == {200: 2, 503: 6}
    assert {reply.text for reply in replies if reply.status == 503} == {UNAVAILABLE}


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(10 * 2**20 + 1, id="above the quota of API Gateway"),
        pytest.param(6 * 2**20, id="above the quota of Lambda, as an event"),
    ],
)
async def test_a_body_larger_than_aws_takes_is_413(size: int) -> None:
    async with served() as url:
        reply = await send(f"{url}/do/echo", data=io.BytesIO(b" " * size))

    assert (reply.status, reply.text) == (413, TOO_LARGE)


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(11):
        yield b" " * 2**20


async def test_a_body_of_unknown_length_is_413_once_it_is_too_large() -> None:
    async with served() as url:
        reply = await send(f"{url}/do/echo", data=chunks())

    assert (reply.status, reply.text) == (413, TOO_LARGE)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_a_body_with_any_content_encoding_reaches_the_function_unchanged(coding: str) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    async with served() as url:
        for body in (b'{"plain": 1}', gzip.compress(b'{"compressed": 1}')):
            event = (await send(f"{url}/do/echo", data=body, headers=headers)).json

            assert event["headers"]["content-encoding"] == coding
            assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (body, True)


async def test_a_header_sent_twice_reaches_the_function_joined_by_a_comma() -> None:
    async with served() as url:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        event = (await send(f"{url}/do/echo", headers=headers)).json

    assert event["headers"]["idempotency-key"] == "a,b"


async def test_cookies_are_a_separate_list() -> None:
    async with served() as url:
        event = (await send(f"{url}/do/echo", headers={"Cookie": "a=1; b=2"})).json

    assert event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in event["headers"]


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("%7By%7D", "{y}"),
        ("{y}", "{y}"),
        ("%7b%7d%7D", "{}}"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a%3Fb", "a?b"),
        ("a%23b", "a#b"),
        ("a+b%2B", "a+b+"),
        ("%25%37%42", "%7B"),
        ("%E2%82%AC", "€"),
        ("a%0Ab", "a\nb"),
        ("%00", "\0"),
    ],
)
async def test_a_path_parameter_is_a_whole_segment_decoded_once(raw: str, decoded: str) -> None:
    async with served() as url:
        event = (await send(yarl.URL(f"{url}/do/{raw}", encoded=True))).json

    assert event["routeKey"] == "POST /do/{what}"
    assert event["pathParameters"] == {"what": decoded}
    assert event["rawPath"] == f"/do/{decoded}"


@pytest.mark.parametrize("path", ["/do%2Fecho", "/do/", "/do", "/do/a/b", "//do/echo"])
async def test_a_path_with_other_segments_goes_to_the_default_route(path: str) -> None:
    async with served(stub=True) as url:
        event = (await send(yarl.URL(f"{url}{path}", encoded=True))).json

    assert event["routeKey"] == "$default"
    assert "pathParameters" not in event


async def test_head_goes_to_the_default_route_as_on_aws_and_its_response_has_no_body() -> None:
    async with served(stub=True) as url:
        got = await send(f"{url}/do/echo", "HEAD")

    assert (got.status, got.text) == (200, "")
    assert int(got.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/page", 200, None),
        ("HEAD", "/page", 200, None),
        ("POST", "/page", 405, "GET,HEAD"),
        ("OPTIONS", "/page", 405, "GET,HEAD"),
        ("DELETE", "/page", 405, "GET,HEAD"),
    ],
)
async def test_pages_of_the_runtime_reject_other_methods_with_a_problem(
    method: str, path: str, status: int, allow: str | None
) -> None:
    async with served(stub=True) as url:
        reply = await send(url + path, method)

    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    if status >= 400:
        assert reply.headers["content-type"].startswith("application/problem+json")
        assert (reply.json["instance"], reply.code) == (path, "method_not_allowed")


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ('{"statusCode":204}', 204, ""),
        ('{"statusCode":200,"body":"aGk=","isBase64Encoded":true}', 200, "hi"),
        ('{"no":"status"}', 200, '{"no":"status"}'),
        ('"just text"', 200, '"just text"'),
        ('{"statusCode":"abc"}', 500, INTERNAL),
        ('{"statusCode":200,"body":["no text"]}', 500, INTERNAL),
        ('{"statusCode":200,"headers":["none"]}', 500, INTERNAL),
        ('{"statusCode":200,"headers":{"x":"a\\r\\ny: b"}}', 500, INTERNAL),
        (
            '{"statusCode":200,"headers":{"Content-Length":"99","Connection":"x"},"body":"a"}',
            200,
            "a",
        ),
    ],
)
async def test_the_result_of_a_function_is_interpreted_as_by_api_gateway(
    answer: str, status: int, body: str
) -> None:
    async with served(stub=True) as url:
        reply = await send(f"{url}/do/answer", data=answer)

    assert (reply.status, reply.text) == (status, body)


async def test_cookies_of_a_result_become_headers() -> None:
    answer = '{"statusCode":200,"cookies":["a=1","b=2; Secure"]}'
    async with (
        served(stub=True) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/do/answer", data=answer) as got,
    ):
        assert got.headers.getall("set-cookie") == ["a=1", "b=2; Secure"]
