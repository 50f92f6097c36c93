"""API Gateway's HTTP API: a request becomes an event of payload 2.0, and the answer a response.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import hdrs, web

from infra.local.authorizers import Admit, Refused, everybody
from infra.local.environments import Failed, Overloaded, Pool, TimedOut
from infra.local.template import DEFAULT_ROUTE

BODY_BYTES_MAX = 10 << 20
"""API Gateway's own limit; the functions have a lower one."""
ANSWER_SECONDS_MAX = 30
"""API Gateway's own limit."""
UNTOLD = "x-openreserve-untold"
"""Header of requests that are not told of: the dashboard's own, which would show itself."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered."""

    route: str
    method: str
    path: str
    status: int
    duration_ms: float
    code: str
    """The problem's; empty, if there was none."""


Tell = Callable[[Answered], None]


def application(
    pools: Sequence[Pool],
    tell: Sequence[Tell],
    add_pages: Callable[[web.Application], None],
    admit: Admit = everybody,
) -> web.Application:
    """The routes of the functions, the runtime's own pages, and `$default` for everything else.

    `admit` says who may call the routes; the pages are anybody's.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    add_pages(app)
    defaults = []
    for pool in pools:
        for route in pool.function.routes:
            if route == DEFAULT_ROUTE:
                defaults.append(pool)
            else:
                method, path = route.split(" ")
                app.router.add_route(method, path, _integration(pool, route, tell, admit))
    for pool in defaults:  # behind the others: the first that matches is taken
        everything_else = _integration(pool, DEFAULT_ROUTE, tell, admit)
        app.router.add_route("*", "/{proxy:.*}", everything_else)
    return app


def _integration(
    pool: Pool, route: str, tell: Sequence[Tell], admit: Admit
) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = str(uuid4())
        try:
            body = await request.read()
            event = _event(request, route, request_id, body)
            if caller := await admit(request, route, body):
                event["requestContext"]["authorizer"] = caller
            answering = pool.invoke(json.dumps(event).encode())
            answer = await asyncio.wait_for(answering, ANSWER_SECONDS_MAX)
            response = _response(json.loads(answer))
        except Refused as refused:
            response = _refusal(refused)
        except web.HTTPRequestEntityTooLarge:
            response = _problem(413, "body_too_large", request_id)
        except (Overloaded, TimeoutError):
            response = _problem(503, "overloaded", request_id)
        except TimedOut:
            response = _problem(504, "function_timeout", request_id)
        except Failed:
            response = _problem(502, "function_failed", request_id)
        if UNTOLD in request.headers:
            return response
        answered = Answered(
            route=route,
            method=request.method,
            path=request.path,
            status=response.status,
            duration_ms=(time.perf_counter() - started) * 1_000,
            code=_code(response),
        )
        for listener in tell:
            listener(answered)
        return response

    return handle


def _event(request: web.Request, route: str, request_id: str, body: bytes) -> dict[str, Any]:
    now = datetime.now(UTC)
    text, encoded = _text(body)
    event = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": request.path,
        "rawQueryString": request.rel_url.raw_query_string,
        "headers": _joined((name.lower(), value) for name, value in request.headers.items()),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": request.host,
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": f"HTTP/{request.version.major}.{request.version.minor}",
                "sourceIp": request.remote or "",
                "userAgent": request.headers.get(hdrs.USER_AGENT, ""),
            },
            "requestId": request_id,
            "routeKey": route,
            "stage": DEFAULT_ROUTE,
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1_000),
        },
        "isBase64Encoded": encoded,
    }
    if body:
        event["body"] = text
    if request.query:
        event["queryStringParameters"] = _joined(request.query.items())
    if request.match_info and route != DEFAULT_ROUTE:
        event["pathParameters"] = dict(request.match_info)
    return event


def _text(body: bytes) -> tuple[str, bool]:
    """The body as text; or in base64, and true, if it is none."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def _joined(pairs: Any) -> dict[str, str]:
    """Payload 2.0 has no lists: values of one name are joined with commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _response(answer: Mapping[str, Any]) -> web.Response:
    body = answer.get("body") or ""
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    return web.Response(
        status=answer["statusCode"], headers=answer.get("headers") or {}, body=content
    )


def _refusal(refused: Refused) -> web.Response:
    """As API Gateway answers it; no function, so no problem document."""
    headers = {"www-authenticate": refused.challenge} if refused.challenge else {}
    text = f'{{"message":"{web.Response(status=refused.status).reason}"}}'
    return web.Response(
        status=refused.status, text=text, content_type="application/json", headers=headers
    )


def _problem(status: int, code: str, request_id: str) -> web.Response:
    """What API Gateway itself answers; there it is plain JSON with a message."""
    document = {
        "type": f"urn:openreserve:problem:{code}",
        "title": web.Response(status=status).reason,
        "status": status,
        "code": code,
        "requestId": request_id,
    }
    return web.json_response(
        document,
        status=status,
        content_type="application/problem+json",
        headers={"retry-after": "1"},
    )


def _code(response: web.Response) -> str:
    if response.content_type != "application/problem+json" or not response.body:
        return ""  # the answer to HEAD has no body
    assert isinstance(response.body, bytes)
    return str(json.loads(response.body)["code"])
