"""What the API answers, as objects; and refusals as the errors that the engine raises."""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from openreserve.domain.errors import OpenReserveError
from openreserve.domain.reservations import Reservation, Status
from openreserve.domain.resources import Adjustment, Item, Resource
from openreserve.http.problems import STATUSES

ERRORS: Mapping[str, type[OpenReserveError]] = {
    code: error for error, (_, code) in STATUSES.items()
}
"""What to raise, by the code of the problem document."""

_REFUSED = 400
"""The first status of those that tell of a problem."""
_FAILED = 500
"""The first status of those that blame the server."""
_OF_CALLERS = {
    401: "the server does not know who calls",
    403: "the server does not let this caller do this",
}
"""What the gateway refuses, before the API has a look at it."""


class NotAnswered(Exception):
    """The call was not answered as the API answers: nobody knows whether it was carried out.

    It is safe to repeat it: with `key`, if it has one.
    """

    def __init__(self, reason: str, *, status: int | None, code: str, key: str | None) -> None:
        super().__init__(reason)
        self.status = status
        """The HTTP status; None: there was no answer at all."""
        self.code = code
        """What went wrong, for programs."""
        self.key = key
        """The Idempotency-Key that the call had."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource's stock, or to a reservation's item of it."""

    id: UUID
    """Names it, wherever and however often it is told."""
    type: str
    resource_id: str
    value: int
    """Units that are available after it; or of the reservation's item."""
    sequence: int | None
    timestamp: datetime
    tokens: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, the oldest first, and the `cursor` to get those behind them by."""

    events: tuple[Event, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Health:
    """`status` is ok, degraded or unavailable."""

    status: str
    postgres: str
    redis: str


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a row of a batch: created, changed, unchanged, or the code of a refusal."""

    outcome: str
    reason: str = ""
    """With a refusal: what is in the way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP, or that there was none."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    reason: str = ""
    """Why there is none."""

    @classmethod
    def none(cls, broken: Exception, server_url: str) -> Self:
        """The answer of a server that gave none."""
        if isinstance(broken, TimeoutError):
            return cls(None, reason=f"{server_url} did not answer in time")
        if isinstance(broken, ConnectionRefusedError):
            return cls(None, reason=f"nothing answers at {server_url}")
        return cls(None, reason=f"{server_url}: {str(broken) or type(broken).__name__}")

    @property
    def document(self) -> Any:
        """The JSON in it; None, if it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    @property
    def code(self) -> str:
        """The code of a problem; empty, if it tells of none."""
        document = self.document if self.status is None or self.status >= _REFUSED else None
        return str(document.get("code", "")) if isinstance(document, dict) else ""

    @property
    def retry_after_seconds(self) -> float:
        """How long the server wants to be left alone."""
        told = self.headers.get("retry-after", "")
        return float(told) if told.isdecimal() else 0.0

    def understood(self, key: str | None, successes: Container[int] = ()) -> Self:
        """The same, if it is one of the API's; `key` is the Idempotency-Key that was sent.

        `successes`: statuses of problems that the API answers with something else here.

        Raises:
            NotAnswered: it is not, or there is none.
        """
        if self.status is None:
            raise NotAnswered(self.reason, status=None, code="server_unreachable", key=key)
        known = self.status < _REFUSED or self.status in successes or self.code in ERRORS
        if known and isinstance(self.document, dict):
            return self
        who = "the server failed" if self.status >= _FAILED else "the server refused"
        reason = _OF_CALLERS.get(self.status, who)
        code = self.code or f"http_{self.status}"
        raise NotAnswered(f"{reason} ({self.status})", status=self.status, code=code, key=key)

    def fields(self) -> dict[str, Any]:
        """The JSON object of a success.

        Raises:
            OpenReserveError: the error of the problem document, which is its `details`.
        """
        document: dict[str, Any] = self.document
        if self.code in ERRORS:
            raise ERRORS[self.code](**document)
        return document


def resource(fields: Mapping[str, Any]) -> Resource:
    """A resource, from its JSON."""
    return Resource(
        resource_id=fields["resourceId"],
        total_stock=fields["totalStock"],
        available_stock=fields["availableStock"],
        held_stock=fields["heldStock"],
        committed_stock=fields["committedStock"],
        version=fields["version"],
        updated_at=datetime.fromisoformat(fields["updatedAt"]),
    )


def reservation(fields: Mapping[str, Any]) -> Reservation:
    """A reservation, from its JSON."""
    return Reservation(
        token=UUID(fields["token"]),
        items=tuple(Item(item["resourceId"], item["quantity"]) for item in fields["items"]),
        status=Status(fields["status"]),
        expires_at=datetime.fromisoformat(fields["expiresAt"]),
        reacquired=fields.get("reacquired", False),
    )


def adjustment(fields: Mapping[str, Any]) -> Adjustment:
    """An adjustment, from its JSON."""
    return Adjustment(
        resource_id=fields["resourceId"],
        difference=fields["difference"],
        reason=fields["reason"],
        total_stock=fields["totalStock"],
        created_at=datetime.fromisoformat(fields["createdAt"]),
    )


def event(fields: Mapping[str, Any]) -> Event:
    """An event, from its JSON."""
    return Event(
        id=UUID(fields["id"]),
        type=fields["type"],
        resource_id=fields["resourceId"],
        value=fields["value"],
        sequence=fields.get("sequence"),
        timestamp=datetime.fromisoformat(fields["timestamp"]),
        tokens=tuple(UUID(token) for token in fields.get("tokens", ())),
    )


def row(fields: Mapping[str, Any]) -> Row:
    """What became of a row, from its JSON."""
    return Row(fields["outcome"], reason_of(fields))


def reason_of(fields: Mapping[str, Any]) -> str:
    """What a problem, or the outcome of a row, says of what exactly was in the way."""
    if "allocatedStock" in fields:
        return f"{fields['allocatedStock']} units are held or committed"
    if "errors" in fields:
        faults = [(fault["pointer"].strip("/"), fault["message"]) for fault in fields["errors"]]
        return "; ".join(f"{where}: {what}".removeprefix(": ") for where, what in faults)
    if "resourceId" in fields and "code" in fields:
        return str(fields["resourceId"])
    if "version" in fields:
        return f"the version is {fields['version']}"
    return str(fields.get("reservationStatus", ""))
