"""Delivers one event: a signed POST, only to addresses of the public Internet (SSRF guard).

The host is resolved once, all its addresses are checked, and the connection goes to one of them.
Follows no redirect, uses no proxy of the environment, and reads only the head of the response.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

import httpcore
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from openreserve.domain.webhooks import Endpoint, is_public, url_fault
from openreserve.runtime.settings import settings

_USER_AGENT = "OpenReserve-Webhooks/1"
_LOOKUPS_MAX = 30


class NotReached(Exception):
    """The delivery failed, or its outcome is unknown: the message is the reason."""


class Forbidden(NotReached):
    """No connection was made: the URL or an address of its host is not an allowed target."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response of the endpoint."""

    status: int
    retry_after_seconds: int
    """Its Retry-After; 0: none."""
    duration_ms: float


async def post(endpoint: Endpoint, event_id: str, content: str) -> Reply:
    """Deliver the content to the endpoint, signed with each of its secrets.

    Raises:
        Forbidden: the URL, or an address of its host, is not an allowed target.
        NotReached: no response in time. The endpoint may have received the content.
    """
    development = bool(settings().webhook_development)
    fault = url_fault(endpoint.url, development=development)
    if fault:
        raise Forbidden(f"the URL {fault}")
    headers = _signed(endpoint.secrets, event_id, content, datetime.now(UTC))
    started = time.perf_counter()
    try:
        async with (
            asyncio.timeout(settings().webhook_timeout_seconds),
            httpcore.AsyncConnectionPool(
                ssl_context=_ssl_context(), network_backend=_SsrfGuard(development=development)
            ) as pool,
            pool.stream(
                "POST", _parsed(endpoint.url), headers=headers, content=content.encode()
            ) as response,
        ):
            return Reply(
                status=response.status,
                retry_after_seconds=_retry_after_seconds(response.headers, datetime.now(UTC)),
                duration_ms=(time.perf_counter() - started) * 1_000,
            )
    except TimeoutError:
        raise NotReached(
            f"it did not answer within {settings().webhook_timeout_seconds} s"
        ) from None
    except (OSError, *_FAILURES) as failure:
        raise NotReached(f"{type(failure).__name__}: {failure}".rstrip(": ")) from failure


_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


class _SsrfGuard(httpcore.AsyncNetworkBackend):
    """Opens all connections, so that every address is checked before it is used."""

    def __init__(self, *, development: bool) -> None:
        self._development = development
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is the library's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._checked(host, port)
        return await self._network.connect_tcp(
            address, port, timeout, local_address, socket_options
        )

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _checked(self, host: str, port: int) -> str:
        """An address of the host, if all its addresses are allowed targets."""
        try:
            infos = await asyncio.get_running_loop().run_in_executor(
                _lookups(), partial(socket.getaddrinfo, host, port, proto=socket.IPPROTO_TCP)
            )
        except UnicodeError:  # a label is empty, or longer than 63 characters
            raise NotReached("the host name is invalid") from None
        addresses = [str(sockaddr[0]) for _, _, _, _, sockaddr in infos]
        if not self._development:
            if str(port) not in settings().webhook_ports.split(","):
                raise Forbidden(f"port {port} is not allowed")
            if not all(map(is_public, addresses)):
                raise Forbidden("the host name resolves to an address that is not public")
        return min(addresses, key=lambda address: ":" in address)  # prefer IPv4: always routable


@cache
def _lookups() -> ThreadPoolExecutor:
    """Threads for DNS lookups only: a hanging name server blocks them for longer than our timeout.

    Enough for three batches, so that other lookups do not wait.
    """
    return ThreadPoolExecutor(_LOOKUPS_MAX, thread_name_prefix="lookup")


def _parsed(url: str) -> httpcore.URL:
    """The URL from its parts: given a text, the library drops what follows a `;` in the path."""
    parts = urlsplit(url)
    return httpcore.URL(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def _signed(
    secrets: Iterable[str], event_id: str, content: str, moment: datetime
) -> list[tuple[str, str]]:
    """The headers. The moment must be in UTC, because the library ignores other time zones."""
    assert moment.tzinfo is UTC
    try:
        signatures = [Webhook(secret).sign(event_id, moment, content) for secret in secrets]
    except (ValueError, EmptyWebhookSecretError):
        signatures = []
    if not signatures:
        raise NotReached("the signing secret is invalid")
    return [
        ("content-type", "application/json"),
        ("user-agent", _USER_AGENT),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(int(moment.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    ]


def _retry_after_seconds(headers: Iterable[tuple[bytes, bytes]], moment: datetime) -> int:
    """RFC 9110, section 10.2.3: seconds or a date. 0 if the header is missing or invalid."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isdecimal():
                return min(int(text[:9]), 1 << 30)
            try:
                return max(0, round((parsedate_to_datetime(text) - moment).total_seconds()))
            except (ValueError, TypeError):
                return 0
    return 0


@cache
def _ssl_context() -> ssl.SSLContext:
    """The roots of certifi, loaded once, because loading takes longer than a handshake."""
    return httpcore.default_ssl_context()
