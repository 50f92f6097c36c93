"""HTTP transport: persistent connections and retries.

Uses the standard library only: a command takes about 0.1 s, and larger HTTP libraries take longer
than that to import.
"""

import http.client
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from openreserve_client import __version__
from openreserve_client.responses import Response

PAUSE_SECONDS_MIN = 0.05
"""The bound of the first pause; each further bound is twice the one before."""
PAUSE_SECONDS_MAX = 2.0
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
RETRIED_CODES = frozenset({"idempotency_in_progress"})

_COMMON_HEADERS = {"accept": "application/json", "user-agent": f"openreserve/{__version__}"}

Sign = Callable[[str, str, Mapping[str, str], bytes | None], Mapping[str, str]]
"""Takes method, URL, headers and body; returns the headers with the authentication added."""


class _Thread(threading.local):
    """The connection of the current thread: HTTP/1.1 has one request at a time on each."""

    connection: http.client.HTTPConnection | None = None


def pauses() -> Iterator[float]:
    """Seconds to wait before each retry: exponential backoff with full jitter."""
    bound = PAUSE_SECONDS_MIN
    while True:
        yield random.uniform(0, bound)  # noqa: S311 - jitter needs no secure randomness
        bound = min(2 * bound, PAUSE_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the API."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Whether it is safe to repeat the request after it may have been carried out."""
    successes: frozenset[int] = frozenset()
    """Error statuses that are regular responses of this call."""

    @property
    def target(self) -> str:
        """The encoded path and query."""
        given = {name: value for name, value in self.query.items() if value not in (None, "")}
        query = f"?{urlencode(given, quote_via=quote)}" if given else ""
        return quote(f"/api/v1{self.path}", safe="/") + query

    @property
    def content(self) -> bytes | None:
        """The encoded body."""
        if self.body is None:
            return None
        return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass(slots=True)
class Transport:
    """Sends requests to a server, over one connection per thread."""

    server_url: str
    timeout_seconds: float
    """The timeout of each attempt."""
    patience_seconds: float
    """How long to retry. An attempt in progress is not cut short."""
    sign: Sign | None = None
    _thread: _Thread = field(default_factory=_Thread, repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid server URL."""
        if not _is_server_url(self.server_url):
            raise ValueError(f"{self.server_url!r} is not a server URL such as http://host:port")
        self.server_url = self.server_url.rstrip("/")

    def send(self, call: Call) -> Response:
        """Send a request, with retries, and return the response.

        Raises:
            NotAnswered: the last attempt got no response, or none that the API documents.
        """
        end = time.monotonic() + self.patience_seconds
        for pause_seconds in pauses():
            response = self._attempt(call)
            pause = response.retry_after_seconds + pause_seconds
            if not _is_retryable(response, call) or time.monotonic() + pause > end:
                return response.checked(call.headers.get("idempotency-key"), call.successes)
            time.sleep(pause)
        raise AssertionError("pauses() is infinite")

    def close(self) -> None:
        """Close the connection of the current thread. The next request opens a new one."""
        if self._thread.connection is not None:
            self._thread.connection.close()
            self._thread.connection = None

    def _attempt(self, call: Call) -> Response:
        if not call.repeatable:
            self.close()  # the server may have closed an idle connection; only sending shows it
        while True:
            is_reused = self._thread.connection is not None
            try:
                return self._exchange(call)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if is_reused and isinstance(error, (ConnectionError, http.client.BadStatusLine)):
                    continue  # the server closed the idle connection: try a new one
                return Response.missing(error, self.server_url)

    def _exchange(self, call: Call) -> Response:
        url = self.server_url + call.target
        headers = _COMMON_HEADERS | dict(call.headers)
        if "idempotency-key" in headers:
            headers["idempotency-key"] = _encoded_key(headers["idempotency-key"])
        if call.content is not None:
            headers["content-type"] = "application/json"
        if self.sign is not None:
            headers = dict(self.sign(call.method, url, headers, call.content))
        connection = self._connect()
        target = urlsplit(self.server_url).path + call.target
        connection.request(call.method, target, body=call.content, headers=headers)
        response = connection.getresponse()
        response_headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, response_headers, response.read())

    def _connect(self) -> http.client.HTTPConnection:
        if self._thread.connection is None:
            parts = urlsplit(self.server_url)
            assert parts.hostname is not None
            connection_class = (
                http.client.HTTPSConnection
                if parts.scheme == "https"
                else http.client.HTTPConnection
            )
            self._thread.connection = connection_class(
                parts.hostname, parts.port, timeout=self.timeout_seconds
            )
        return self._thread.connection


def _encoded_key(key: str) -> str:
    """The header for an Idempotency-Key: bare if the API reads that as this key, else quoted."""
    if "," not in key and not key.startswith('"') and key == key.strip(" \t"):
        return key
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'


def _is_server_url(url: str) -> bool:
    """Whether the URL is valid. One with a user is not: the user would not be sent."""
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(host)
        and parts.username is None
        and url.isprintable()
        and " " not in url
    )


def _is_retryable(response: Response, call: Call) -> bool:
    """Whether a repeat may succeed: the server is unreachable or busy, or the key is in use."""
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True  # the request was not processed, so every call may be repeated
    # API Gateway responds for a function that crashed; the API's own 500 is a problem document.
    is_crash = response.status == HTTPStatus.INTERNAL_SERVER_ERROR and not response.code
    return call.repeatable and (
        response.status is None
        or is_crash
        or response.status in RETRIED_STATUSES
        or response.code in RETRIED_CODES
    )
