"""HTTP connections with deadlines, size limits, and problem documents for malformed requests.

aiohttp alone answers a malformed request in plain text, prints a traceback, and waits an hour for
the rest of a header.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.web_protocol import ERROR, RequestPayloadError, _ErrInfo

from infra.local.http.error_responses import aws_error, problem

CONNECTIONS_MAX = 10_000
URL_BYTES_MAX = 8_192
HEADERS_BYTES_MAX = 10_240
"""Request line and header values combined, as in API Gateway."""
_CLIENT_ERROR = 400
_CONTINUE = "100-continue"
_VERSIONS = ((1, 0), (1, 1))
_KEEP_ALIVE_STATUSES = (404, 405)
"""The request was read completely, so the connection can be reused."""
_TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    b"content-length: 33\r\nconnection: close\r\n\r\n"
    b'{"message":"Service Unavailable"}'
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum number of connections, and the timeouts of each."""

    connections: int = CONNECTIONS_MAX
    header_seconds: float = 10
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 30
    idle_seconds: float = 75
    """Between two requests."""
    write_seconds: float = 30
    """For sending the response."""
    linger_seconds: float = 2
    """For the client to read an error response before the connection closes."""


class Runner(web.AppRunner):
    """Serves an application with connection limits."""

    def __init__(self, app: web.Application, limits: Limits | None = None) -> None:
        super().__init__(app)
        self._limits = limits or Limits()

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._limits)


class _Server(web.Server):
    """Creates a connection per client."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        super().__init__(self._respond, request_factory=self._begin)
        self._server = server
        self._limits = limits

    def __call__(self) -> "_Connection":
        return _Connection(self, self._limits)

    def is_full(self) -> bool:
        """Whether the maximum number of connections is exceeded."""
        return len(self._connections) > self._limits.connections

    def _begin(self, message: Any, payload: Any, protocol: Any, *others: Any) -> web.BaseRequest:
        protocol.begin(payload)
        try:
            return self._server.request_factory(message, payload, protocol, *others)
        except AttributeError:  # CONNECT without a target has no URL
            return self._server.request_factory(ERROR, payload, protocol, *others)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        _reject_unsupported(request)
        return await self._server.request_handler(request)


class _Connection(web.RequestHandler):
    """One connection. It closes when the client is too slow, or sends something other than HTTP."""

    def __init__(self, server: _Server, limits: Limits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None is documented as allowed
            auto_decompress=False,  # the function gets the bytes as sent, as on AWS
            keepalive_timeout=limits.idle_seconds,
            lingering_time=limits.linger_seconds,
            max_line_size=URL_BYTES_MAX,
            max_field_size=HEADERS_BYTES_MAX,
        )
        self._server = server
        self._limits = limits
        self._body: Any = None
        """The body of the request in progress."""
        self._header_deadline: asyncio.TimerHandle | None = None
        self._client_closed: asyncio.Future[None] | None = None
        """Set when an error response ends the connection. Further bytes are discarded."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the header timeout, or reject the connection if there are too many."""
        super().connection_made(transport)
        if self._server.is_full():
            cast("asyncio.Transport", transport).write(_TOO_MANY_CONNECTIONS)
            self.force_close()
        else:
            self._await_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the header timeout, and end lingering."""
        self._cancel_header_deadline()
        self._end_linger()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The client has closed its side: end lingering."""
        self._end_linger()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and report a malformed body to its reader."""
        if self._client_closed is not None:
            return
        super().data_received(data)
        if not self._messages:
            if self._body is None:
                self._await_headers()
        elif self._body is not None and isinstance(self._messages[-1][0], _ErrInfo):
            self._fail_body()

    def begin(self, body: Any) -> None:
        """Handle a request whose headers are complete."""
        self._cancel_header_deadline()
        self._body = body

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response. Converts aiohttp's own errors to problem documents."""
        if isinstance(resp, web.HTTPException) and resp.status >= _CLIENT_ERROR:
            resp = _as_problem(request, resp)
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                finished = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.force_close()
            return resp, True
        finally:
            self._release_body()
        if self._client_closed is not None:
            await self._linger(self._client_closed)
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; not shown to the client
    ) -> web.StreamResponse:
        """The response to a malformed request (4xx), or to an unhandled exception (500)."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has disconnected
        if request.writer.output_size:
            raise ConnectionError("the response has started and can only be aborted")
        if status < 500:  # noqa: PLR2004 - client errors
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

    def _cancel_header_deadline(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _fail_body(self) -> None:
        """Fail the body: aiohttp's parser does not notify its reader of malformed chunks."""
        if not self._body.is_eof():
            self._body.set_exception(RequestPayloadError("malformed"))

    def _release_body(self) -> None:
        if self._body is not None and self._body.exception() is not None:
            self._body.feed_eof()  # otherwise aiohttp keeps reading
            self._client_closed = self._client_closed or self._loop.create_future()
        self._body = None

    def _end_linger(self) -> None:
        if self._client_closed is not None and not self._client_closed.done():
            self._client_closed.set_result(None)

    async def _linger(self, client_closed: asyncio.Future[None]) -> None:
        """Let the client read the response: closing with unread bytes resets the connection."""
        if self.transport is not None and not client_closed.done():
            with suppress(OSError):
                self.transport.write_eof()
            with suppress(TimeoutError):
                await asyncio.wait_for(client_closed, self._limits.linger_seconds)


def _reject_unsupported(request: web.BaseRequest) -> None:
    """Raise the HTTP error of a well-formed request that the gateway does not support."""
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


def _as_problem(request: web.BaseRequest, error: web.HTTPException) -> web.Response:
    if error.status == web.HTTPRequestEntityTooLarge.status_code:
        return aws_error(error.status)
    allow = error.headers.get(hdrs.ALLOW)
    response = problem(error.status, request.path, headers={hdrs.ALLOW: allow} if allow else None)
    if error.status not in _KEEP_ALIVE_STATUSES:
        response.force_close()
    return response
