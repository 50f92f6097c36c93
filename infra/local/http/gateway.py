"""API Gateway's HTTP API: routes each request to its function, and returns the response.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from aiohttp import web

from infra.local.auth.authorizers import Authorizer, NotAuthorized, allow_all
from infra.local.http import payload
from infra.local.http.connections import Limits
from infra.local.http.error_responses import aws_error, problem
from infra.local.lambdas.pool import Failed, Overloaded, Pool
from infra.local.template.model import DEFAULT_ROUTE

BODY_BYTES_MAX = 10 << 20
"""Quota of API Gateway. The functions have a lower limit."""
EVENT_BYTES_MAX = 6_291_556
"""Quota of Lambda."""
INTEGRATION_TIMEOUT_SECONDS = 30
"""Quota of API Gateway."""
UNREPORTED_HEADER = "x-openreserve-unreported"
"""Requests with this header are neither logged nor counted: the dashboard's own polling."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class CompletedRequest:
    """A request, and the outcome of it."""

    route: str
    method: str
    path: str
    status: int
    duration_ms: float
    code: str
    """`code` of the problem document. Empty for a success."""


Listener = Callable[[CompletedRequest], None]


def application(
    pools: Sequence[Pool],
    listeners: Sequence[Listener],
    add_pages: Callable[[web.Application], None],
    authorize: Authorizer = allow_all,
    limits: Limits | None = None,
) -> web.Application:
    """The routes of the functions, the runtime's own pages, and `$default` for all other paths.

    `authorize` guards the routes; the pages need no credentials. Each listener gets every
    completed request.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    add_pages(app)
    pages = tuple(app.router.resources())
    integrations = _Integrations(listeners, authorize, (limits or Limits()).body_seconds)
    for pool in pools:
        for route in pool.function.routes:
            handler = integrations.handler(pool, route)
            if route == DEFAULT_ROUTE:
                app.router.add_route("*", "/{proxy:.*}", _except_pages(pages, handler))
            else:
                method, path = route.split(" ")
                app.router.add_route(method, _pattern(path), handler)
    return app


def _pattern(path: str) -> str:
    """A parameter matches a whole segment. aiohttp's default pattern does not match braces."""
    return path.replace("}", ":[^/]+}")


def _except_pages(pages: Iterable[web.AbstractResource], handler: Handler) -> Handler:
    """The handler, except on the path of a page: there the method is not allowed (405)."""

    async def handle(request: web.Request) -> web.StreamResponse:
        for page in pages:
            _, methods = await page.resolve(request)
            if methods:
                raise web.HTTPMethodNotAllowed(request.method, sorted(methods))
        return await handler(request)

    return handle


@dataclass(frozen=True, slots=True)
class _Integrations:
    """Lambda proxy integrations: from an HTTP request to an invocation, and back."""

    listeners: Sequence[Listener]
    authorize: Authorizer
    body_seconds: float

    def handler(self, pool: Pool, route: str) -> Handler:
        """The HTTP handler of a route."""

        async def handle(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            response = await self._respond(pool, route, request)
            if UNREPORTED_HEADER not in request.headers:
                self._report(route, request, response, started)
            return response

        return handle

    async def _respond(self, pool: Pool, route: str, request: web.Request) -> web.Response:
        """The response of the function, or the error that API Gateway returns instead."""
        try:
            body = await self._body(request)
            event = payload.event(request, route, str(uuid4()), body)
            if caller := await self.authorize(request, route, body):
                event["requestContext"]["authorizer"] = caller
            content = payload.serialized(event)
            if len(content) > EVENT_BYTES_MAX:
                return aws_error(413)
            # Unlike wait_for, asyncio.timeout creates no task.
            async with asyncio.timeout(INTEGRATION_TIMEOUT_SECONDS):
                return payload.response(await pool.invoke(content), request.method)
        except NotAuthorized as rejection:
            return aws_error(rejection.status, rejection.challenge)
        except _UnreadableBody as unreadable:
            return unreadable.response
        except (Overloaded, TimeoutError):
            return aws_error(503)
        except (Failed, payload.InvalidResponse):
            return aws_error(500)

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > BODY_BYTES_MAX:
            raise _UnreadableBody(aws_error(413))
        try:
            async with asyncio.timeout(self.body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _UnreadableBody(aws_error(413)) from None
        except web.RequestPayloadError:
            raise _UnreadableBody(problem(400, request.path)) from None
        except TimeoutError:
            raise _UnreadableBody(problem(408, request.path)) from None

    def _report(
        self, route: str, request: web.Request, response: web.Response, started: float
    ) -> None:
        completed = CompletedRequest(
            route=route,
            method=request.method,
            path=_printable(request.path),
            status=response.status,
            duration_ms=(time.perf_counter() - started) * 1_000,
            code=_code(response),
        )
        for listener in self.listeners:
            listener(completed)


class _UnreadableBody(Exception):
    """The body of a request could not be read. The response closes the connection."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        response.force_close()
        self.response = response


def _printable(path: str) -> str:
    """The path without control characters, which a terminal would interpret."""
    return path if path.isprintable() else "".join(c if c.isprintable() else "?" for c in path)


def _code(response: web.Response) -> str:
    if response.content_type != "application/problem+json" or not response.body:
        return ""  # the response to HEAD has no body
    assert isinstance(response.body, bytes)
    return str(json.loads(response.body).get("code", ""))
