"""HTTP connections that no client can break: deadlines, limits, and an answer to malformed bytes.

aiohttp answers a malformed request in plain text, prints a traceback, and waits an hour for the
rest of a header.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.web_protocol import ERROR, RequestPayloadError, _ErrInfo

from infra.local.refusals import aws_answer, problem

CONNECTIONS_MAX = 10_000
URL_BYTES_MAX = 8_192
HEADERS_BYTES_MAX = 10_240
"""Of the request line and the values of the headers together: API Gateway's own limit."""
_ERRORS = 400
_CONTINUE = "100-continue"
_VERSIONS = ((1, 0), (1, 1))
_HARMLESS = (404, 405)
"""After these, the connection may go on: the request was read, and understood."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    b"content-length: 33\r\nconnection: close\r\n\r\n"
    b'{"message":"Service Unavailable"}'
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there may be, and how long each may keep the gateway waiting."""

    connections: int = CONNECTIONS_MAX
    header_seconds: float = 10
    """From the first byte of a request to the last of its headers."""
    body_seconds: float = 30
    idle_seconds: float = 75
    """Between two requests."""
    write_seconds: float = 30
    """For the client to take the response."""
    linger_seconds: float = 2
    """For the client to read a refusal before the connection closes."""


class Runner(web.AppRunner):
    """Serves an application on connections with limits."""

    def __init__(self, app: web.Application, limits: Limits | None = None) -> None:
        super().__init__(app)
        self._limits = limits or Limits()

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._limits)


class _Server(web.Server):
    """Makes a connection for each client."""

    def __init__(self, made: web.Server, limits: Limits) -> None:
        super().__init__(self._answer, request_factory=self._begin)
        self._made = made
        self._limits = limits

    def __call__(self) -> "_Connection":
        return _Connection(self, self._limits)

    def is_full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self._connections) > self._limits.connections

    def _begin(self, message: Any, payload: Any, protocol: Any, *others: Any) -> web.BaseRequest:
        protocol.begin(payload)
        try:
            return self._made.request_factory(message, payload, protocol, *others)
        except AttributeError:  # CONNECT without a target has no URL
            return self._made.request_factory(ERROR, payload, protocol, *others)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        _refuse_unsupported(request)
        return await self._made.request_handler(request)


class _Connection(web.RequestHandler):
    """One connection, which closes when its client is too slow or does not speak HTTP."""

    def __init__(self, server: _Server, limits: Limits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # none, as its documentation allows
            auto_decompress=False,  # the function gets the bytes that were sent, as on AWS
            keepalive_timeout=limits.idle_seconds,
            lingering_time=limits.linger_seconds,
            max_line_size=URL_BYTES_MAX,
            max_field_size=HEADERS_BYTES_MAX,
        )
        self._server = server
        self._limits = limits
        self._body: Any = None
        """Of the request that is being answered."""
        self._header_deadline: asyncio.TimerHandle | None = None
        self._client_closed: asyncio.Future[None] | None = None
        """Set once a refusal ends the connection: what the client still sends is discarded."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if self._server.is_full():
            cast("asyncio.Transport", transport).write(_FULL)
            self.force_close()
        else:
            self._await_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has closed."""
        self._forget_header_deadline()
        self._end_of_client()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The client sends no more."""
        self._end_of_client()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come: parts of requests, or of one."""
        if self._client_closed is not None:
            return
        super().data_received(data)
        if not self._messages:
            if self._body is None:
                self._await_headers()
        elif self._body is not None and isinstance(self._messages[-1][0], _ErrInfo):
            self._fail_body()

    def begin(self, body: Any) -> None:
        """A request with complete headers is about to be answered."""
        self._forget_header_deadline()
        self._body = body

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response. aiohttp's own refusals become problem documents."""
        if isinstance(resp, web.HTTPException) and resp.status >= _ERRORS:
            resp = _as_problem(request, resp)
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                finished = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.force_close()
            return resp, True
        finally:
            self._forget_body()
        if self._client_closed is not None:
            await self._linger(self._client_closed)
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's, and not for the client
    ) -> web.StreamResponse:
        """The answer to a request that is malformed, or to a failure of the gateway."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has gone
        if request.writer.output_size:
            raise ConnectionError("the response has begun: only closing can end it")
        if status < 500:  # noqa: PLR2004 - the class of statuses
            self._client_closed = self._loop.create_future()
            response = problem(_status_of(exc), "/")
        else:
            self.log_exception("Unhandled exception", exc_info=exc)
            response = problem(500, request.path)
        response.force_close()
        return response

    def _await_headers(self) -> None:
        if self._header_deadline is None:
            seconds = self._limits.header_seconds
            self._header_deadline = self._loop.call_later(seconds, self.force_close)

    def _forget_header_deadline(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _fail_body(self) -> None:
        """The parser gave up within a body, and does not say so to whoever reads the body."""
        if not self._body.is_eof():
            self._body.set_exception(RequestPayloadError("malformed"))

    def _forget_body(self) -> None:
        if self._body is not None and self._body.exception() is not None:
            self._body.feed_eof()  # else aiohttp would read on
            self._client_closed = self._client_closed or self._loop.create_future()
        self._body = None

    def _end_of_client(self) -> None:
        if self._client_closed is not None and not self._client_closed.done():
            self._client_closed.set_result(None)

    async def _linger(self, client_closed: asyncio.Future[None]) -> None:
        """Let the client read the refusal: closing with unread bytes would reset the connection."""
        if self.transport is not None and not client_closed.done():
            with suppress(OSError):
                self.transport.write_eof()
            with suppress(TimeoutError):
                await asyncio.wait_for(client_closed, self._limits.linger_seconds)


def _refuse_unsupported(request: web.BaseRequest) -> None:
    """Raise the refusal of a request that is well-formed, and that the gateway cannot take."""
    if request.version not in _VERSIONS:
        raise web.HTTPVersionNotSupported
    if request.method in (hdrs.METH_CONNECT, ERROR.method):
        raise web.HTTPBadRequest
    if request.headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
        raise web.HTTPExpectationFailed
    coding = request.headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None and coding.lower() != "chunked":
        raise web.HTTPNotImplemented
    size = len(request.raw_path) + sum(len(value) for _, value in request.raw_headers)
    if size > HEADERS_BYTES_MAX:
        raise web.HTTPRequestHeaderFieldsTooLarge


def _status_of(exc: BaseException | None) -> int:
    match exc:
        case LineTooLong(args=(_, limit, *_)):
            return 414 if limit == URL_BYTES_MAX else 431
        case BadHttpMessage(message=str(text)) if text.startswith("Too many headers"):
            return 431
    return 400


def _as_problem(request: web.BaseRequest, refusal: web.HTTPException) -> web.Response:
    if refusal.status == web.HTTPRequestEntityTooLarge.status_code:
        return aws_answer(refusal.status)
    allow = refusal.headers.get(hdrs.ALLOW)
    response = problem(refusal.status, request.path, headers={hdrs.ALLOW: allow} if allow else None)
    if refusal.status not in _HARMLESS:
        response.force_close()
    return response
