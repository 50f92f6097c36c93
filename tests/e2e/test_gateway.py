"""The gateway hands events over as API Gateway does, and answers for environments that cannot."""

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yarl
from aiohttp import web

from infra.local import gateway
from infra.local.authorizers import Admit, everybody
from infra.local.environments import Pool
from infra.local.template import Function
from tests.calls import Reply

FUNCTIONS = Path(__file__).parent / "functions"
ROUTES = ("POST /do/{what}", "GET /do/{what}")


@asynccontextmanager
async def served(waiting_max: int = 100, admit: Admit = everybody) -> AsyncIterator[str]:
    """A gateway before a function that answers with the event it got, or misbehaves."""
    function = Function("Echo", FUNCTIONS / "echoing", "app.handler", 1, 128, {}, ROUTES, ())
    pool = Pool(function, 1, waiting_max, lambda *_: None, {})
    app = gateway.application([pool], (), lambda _: None, admit)
    runner = web.AppRunner(app)
    await pool.start()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await pool.stop()
        await runner.cleanup()


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


async def test_bytes_that_are_no_text_come_in_base64() -> None:
    async with served() as url:
        event = (await send(f"{url}/do/echo", data=b"\xff\xfe")).json

    assert (event["body"], event["isBase64Encoded"]) == ("//4=", True)


async def test_what_the_function_answers_is_what_the_caller_gets() -> None:
    async with served() as url:
        reply = await send(f"{url}/do/teapot", "GET")

    assert (reply.status, reply.text, reply.headers["x-tea"]) == (418, "short and stout", "green")


async def test_a_crash_is_502_a_timeout_504_and_both_say_that_a_repeat_may_go_well() -> None:
    async with served() as url:
        crash = await send(f"{url}/do/crash")
        slow = await send(f"{url}/do/sleep")
        well = await send(f"{url}/do/echo")

    assert (crash.status, crash.code) == (502, "function_failed")
    assert (slow.status, slow.code) == (504, "function_timeout")
    for reply in (crash, slow):
        assert reply.headers["content-type"].startswith("application/problem+json")
        assert reply.headers["retry-after"] == "1"
    assert well.status == 200


async def test_more_than_may_wait_is_503_at_once() -> None:
    async with served(waiting_max=2) as url:
        replies = await asyncio.gather(*(send(f"{url}/do/echo") for _ in range(8)))

    assert Counter(reply.status for reply in replies) == {200: 2, 503: 6}
    assert {reply.code for reply in replies if reply.status == 503} == {"overloaded"}


async def test_a_body_larger_than_api_gateway_takes_is_413() -> None:
    async with served() as url:
        reply = await send(f"{url}/do/echo", data=io.BytesIO(b" " * (10 * 2**20 + 1)))

    assert (reply.status, json.loads(reply.text)["code"]) == (413, "body_too_large")
