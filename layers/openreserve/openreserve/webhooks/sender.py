"""The border to other people's servers: one signed POST, to nowhere but the public Internet.

A name is looked up once, every address that it has is checked, and the connection goes to one of
those. No redirect is followed, no proxy of the environment used, nothing of the answer read but
its head.
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
_LOOK_UPS_MAX = 30


class NotReached(Exception):
    """Nothing was delivered, or nobody knows: the text says why."""


class Forbidden(NotReached):
    """Nothing was delivered, and no connection made: the URL leads to where none may lead."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint answered."""

    status: int
    retry_after_seconds: int
    """What it asked for; 0: nothing."""
    duration_ms: float


async def post(endpoint: Endpoint, event_id: str, content: str) -> Reply:
    """Deliver the content to the endpoint, signed with each of its secrets.

    Raises:
        Forbidden: the URL, or an address that its name has, is none that deliveries may go to.
        NotReached: no answer in time. It may have got the content nevertheless.
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
                ssl_context=_trusted(), network_backend=_Guard(development=development)
            ) as pool,
            pool.stream(
                "POST", _whole(endpoint.url), headers=headers, content=content.encode()
            ) as answer,
        ):
            return Reply(
                status=answer.status,
                retry_after_seconds=_retry_after_seconds(answer.headers, datetime.now(UTC)),
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


class _Guard(httpcore.AsyncNetworkBackend):
    """Opens the connections, so that nothing can be reached that it did not look at."""

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
        """An address of the host, if all of them are such that deliveries may go there."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                _look_ups(), partial(socket.getaddrinfo, host, port, proto=socket.IPPROTO_TCP)
            )
        except UnicodeError:  # a part of it is empty, or longer than 63 characters
            raise NotReached("its name is none that a host can have") from None
        addresses = [str(place[0]) for _, _, _, _, place in found]
        if not self._development:
            if str(port) not in settings().webhook_ports.split(","):
                raise Forbidden(f"port {port} is not one that deliveries may go to")
            if not all(map(is_public, addresses)):
                raise Forbidden("its name leads to an address that is not public")
        return min(addresses, key=lambda address: ":" in address)  # IPv4 is reached from anywhere


@cache
def _look_ups() -> ThreadPoolExecutor:
    """Threads for names alone: a name server that hangs holds them long after our patience ends.

    Enough for three batches, so that it holds up nobody else.
    """
    return ThreadPoolExecutor(_LOOK_UPS_MAX, thread_name_prefix="look-up")


def _whole(url: str) -> httpcore.URL:
    """The URL in parts: of a whole one, the library forgets what follows a `;` in the path."""
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
    """The headers. The moment must be in UTC: the library signs any other as if it were."""
    assert moment.tzinfo is UTC
    try:
        signatures = [Webhook(secret).sign(event_id, moment, content) for secret in secrets]
    except (ValueError, EmptyWebhookSecretError):
        signatures = []
    if not signatures:
        raise NotReached("its secret cannot be read")
    return [
        ("content-type", "application/json"),
        ("user-agent", _USER_AGENT),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(int(moment.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    ]


def _retry_after_seconds(headers: Iterable[tuple[bytes, bytes]], moment: datetime) -> int:
    """RFC 9110, 10.2.3: seconds, or a date. What is neither counts as nothing."""
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
def _trusted() -> ssl.SSLContext:
    """The roots of certifi, loaded once: that takes longer than a handshake."""
    return httpcore.default_ssl_context()
