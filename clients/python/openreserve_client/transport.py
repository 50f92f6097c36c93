"""HTTP to the API: connections that are kept, and calls that are repeated until one is answered.

On the standard library alone: a program on the command line lives for a tenth of a second, and the
import of a larger HTTP library takes more than that.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from openreserve import __version__
from openreserve.client.answers import Answer
from openreserve.http.idempotency import as_field

PAUSE_SECONDS_MIN = 0.05
"""The first pause is up to this; each further one up to twice the one before."""
PAUSE_SECONDS_MAX = 2.0
_OF_EVERY_CALL = {"accept": "application/json", "user-agent": f"openreserve/{__version__}"}
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
RETRIED_CODES = frozenset({"idempotency_in_progress"})

Sign = Callable[[str, str, Mapping[str, str], bytes | None], Mapping[str, str]]
"""Takes method, URL, headers and body; returns the headers with a signature among them."""


class _Thread(threading.local):
    """The connection of this thread: HTTP/1.1 carries one call at a time."""

    connection: http.client.HTTPConnection | None = None


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: by chance, so that callers do not come in step."""
    bound = PAUSE_SECONDS_MIN
    while True:
        yield random.uniform(0, bound)  # noqa: S311 - chance here keeps no secret
        bound = min(2 * bound, PAUSE_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask of the API. A repeat is harmless, unless it says otherwise."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    successes: frozenset[int] = frozenset()
    """Statuses that are answers here, though they tell of problems elsewhere."""

    @property
    def target(self) -> str:
        """Path and query, as they are sent."""
        given = {name: value for name, value in self.query.items() if value not in (None, "")}
        query = f"?{urlencode(given, quote_via=quote)}" if given else ""
        return quote(f"/api/v1{self.path}", safe="/") + query

    @property
    def content(self) -> bytes | None:
        """The body, as it is sent."""
        if self.body is None:
            return None
        return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass(slots=True)
class Transport:
    """Where the API is, how long it is waited for, and the connections to it, one per thread."""

    server_url: str
    timeout_seconds: float
    """How long one try may take before it counts as lost."""
    patience_seconds: float
    """How long a call is tried again; a try that has begun then is still waited for."""
    sign: Sign | None = None
    _thread: _Thread = field(default_factory=_Thread, repr=False)

    def __post_init__(self) -> None:
        """Refuses what is no URL of a server, with a ValueError."""
        if not _is_server(self.server_url):
            raise ValueError(f"{self.server_url!r} is no URL of a server: http://host:port")
        self.server_url = self.server_url.rstrip("/")

    def send(self, call: Call) -> Answer:
        """The answer to a call, which is repeated as it is while it may still go well.

        Raises:
            NotAnswered: the last try was not answered, or not with what the API answers.
        """
        end = time.monotonic() + self.patience_seconds
        for pause_seconds in pauses():
            answer = self._try(call)
            pause = answer.retry_after_seconds + pause_seconds
            if not _may_go_better(answer, call) or time.monotonic() + pause > end:
                return answer.understood(call.headers.get("idempotency-key"), call.successes)
            time.sleep(pause)
        raise AssertionError("there is always another pause")

    def close(self) -> None:
        """Close the connection of this thread. The next call opens another."""
        if self._thread.connection is not None:
            self._thread.connection.close()
            self._thread.connection = None

    def _try(self, call: Call) -> Answer:
        if not call.repeatable:
            self.close()  # a connection that lay idle may be dead, which shows too late
        while True:
            reused = self._thread.connection is not None
            try:
                return self._exchange(call)
            except (OSError, http.client.HTTPException) as broken:
                self.close()
                if reused and isinstance(broken, (ConnectionError, http.client.BadStatusLine)):
                    continue  # it was closed while it lay idle: not the server's fault
                return Answer.none(broken, self.server_url)

    def _exchange(self, call: Call) -> Answer:
        url = self.server_url + call.target
        headers = _OF_EVERY_CALL | dict(call.headers)
        if "idempotency-key" in headers:
            headers["idempotency-key"] = as_field(headers["idempotency-key"])
        if call.content is not None:
            headers["content-type"] = "application/json"
        if self.sign is not None:
            headers = dict(self.sign(call.method, url, headers, call.content))
        connection = self._connect()
        target = urlsplit(self.server_url).path + call.target
        connection.request(call.method, target, body=call.content, headers=headers)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())

    def _connect(self) -> http.client.HTTPConnection:
        if self._thread.connection is None:
            parts = urlsplit(self.server_url)
            assert parts.hostname is not None
            kind = (
                http.client.HTTPSConnection
                if parts.scheme == "https"
                else http.client.HTTPConnection
            )
            self._thread.connection = kind(parts.hostname, parts.port, timeout=self.timeout_seconds)
        return self._thread.connection


def _is_server(url: str) -> bool:
    """Whether requests can be sent there: without a user, who would not be sent along."""
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


def _may_go_better(answer: Answer, call: Call) -> bool:
    """Whether a repeat may be answered: the server is away or busy, or a twin is under way."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True  # it was not looked at, so this is a repeat of nothing
    # API Gateway answers for a function that crashed; the engine's own 500 is a problem.
    crashed = answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and not answer.code
    return call.repeatable and (
        answer.status is None
        or crashed
        or answer.status in RETRIED_STATUSES
        or answer.code in RETRIED_CODES
    )
