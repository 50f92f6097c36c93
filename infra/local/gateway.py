"""API Gateway's HTTP API: hands each request to the function of its route, and answers for it.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from aiohttp import web

from infra.local import payload
from infra.local.auth.authorizers import Admit, Refused, everybody
from infra.local.connections import Limits
from infra.local.lambda_pool import Failed, Overloaded, Pool
from infra.local.refusals import aws_answer, problem
from infra.local.template.model import DEFAULT_ROUTE

BODY_BYTES_MAX = 10 << 20
"""API Gateway's own limit; the functions have a lower one."""
EVENT_BYTES_MAX = 6_291_556
"""Lambda's own limit."""
ANSWER_SECONDS_MAX = 30
"""API Gateway's own limit."""
UNTOLD = "x-openreserve-untold"
"""Header of requests that are not reported: the dashboard's own, which would show itself."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
    emit: Sequence[Tell],
    add_pages: Callable[[web.Application], None],
    admit: Admit = everybody,
    limits: Limits | None = None,
) -> web.Application:
    """The routes of the functions, the runtime's own pages, and `$default` for everything else.

    `admit` decides who may call the routes; the pages are open. `tell` gets each answer.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    add_pages(app)
    pages = tuple(app.router.resources())
    integration = _Integrations(emit, admit, (limits or Limits()).body_seconds)
    for pool in pools:
        for route in pool.function.routes:
            handler = integration.of(pool, route)
            if route == DEFAULT_ROUTE:
                app.router.add_route("*", "/{proxy:.*}", _behind(pages, handler))
            else:
                method, path = route.split(" ")
                app.router.add_route(method, _pattern(path), handler)
    return app


def _pattern(path: str) -> str:
    """A parameter takes a whole segment; aiohttp's own pattern would leave out braces."""
    return path.replace("}", ":[^/]+}")


def _behind(pages: Iterable[web.AbstractResource], handler: Handler) -> Handler:
    """The handler for what is no page; a page refuses methods that it does not take."""

    async def handle(request: web.Request) -> web.StreamResponse:
        for page in pages:
            _, methods = await page.resolve(request)
            if methods:
                raise web.HTTPMethodNotAllowed(request.method, sorted(methods))
        return await handler(request)

    return handle


@dataclass(frozen=True, slots=True)
class _Integrations:
    """How requests reach functions."""

    emit: Sequence[Tell]
    admit: Admit
    body_seconds: float

    def of(self, pool: Pool, route: str) -> Handler:
        """What answers requests of a route."""

        async def handle(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            response = await self._answer(pool, route, request)
            if UNTOLD not in request.headers:
                self._report(route, request, response, started)
            return response

        return handle

    async def _answer(self, pool: Pool, route: str, request: web.Request) -> web.Response:
        """The function's answer; or the one that API Gateway gives in its place."""
        try:
            body = await self._body(request)
            event = payload.event(request, route, str(uuid4()), body)
            if caller := await self.admit(request, route, body):
                event["requestContext"]["authorizer"] = caller
            content = payload.serialized(event)
            if len(content) > EVENT_BYTES_MAX:
                return aws_answer(413)
            async with asyncio.timeout(ANSWER_SECONDS_MAX):  # unlike wait_for, without a task
                return payload.response(await pool.invoke(content))
        except Refused as refused:
            return aws_answer(refused.status, refused.challenge)
        except _Unreadable as unreadable:
            return unreadable.response
        except (Overloaded, TimeoutError):
            return aws_answer(503)
        except (Failed, payload.NotAResponse):
            return aws_answer(500)

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > BODY_BYTES_MAX:
            raise _Unreadable(aws_answer(413))
        try:
            async with asyncio.timeout(self.body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _Unreadable(aws_answer(413)) from None
        except web.RequestPayloadError:
            raise _Unreadable(problem(400, request.path)) from None
        except TimeoutError:
            raise _Unreadable(problem(408, request.path)) from None

    def _report(
        self, route: str, request: web.Request, response: web.Response, started: float
    ) -> None:
        answered = Answered(
            route=route,
            method=request.method,
            path=_printable(request.path),
            status=response.status,
            duration_ms=(time.perf_counter() - started) * 1_000,
            code=_code(response),
        )
        for listener in self.emit:
            listener(answered)


class _Unreadable(Exception):
    """The body of a request cannot be had: what to answer instead, on a connection that closes."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        response.force_close()
        self.response = response


def _printable(path: str) -> str:
    """The path without what a terminal would obey, or cannot show."""
    return path if path.isprintable() else "".join(c if c.isprintable() else "?" for c in path)


def _code(response: web.Response) -> str:
    if response.content_type != "application/problem+json" or not response.body:
        return ""  # the answer to HEAD has no body
    assert isinstance(response.body, bytes)
    return str(json.loads(response.body).get("code", ""))
