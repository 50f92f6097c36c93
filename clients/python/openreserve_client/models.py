"""The objects of the API, parsed from its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

Fields = Mapping[str, Any]
"""A JSON object."""


class Status(StrEnum):
    """The status of a reservation."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Item:
    """A quantity of one resource."""

    resource_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource and its stock. Expired holds count as available.

    total_stock = available_stock + held_stock + committed_stock, each at least 0.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    held_stock: int
    committed_stock: int
    version: int
    updated_at: datetime

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(
            resource_id=fields["resourceId"],
            total_stock=fields["totalStock"],
            available_stock=fields["availableStock"],
            held_stock=fields["heldStock"],
            committed_stock=fields["committedStock"],
            version=fields["version"],
            updated_at=datetime.fromisoformat(fields["updatedAt"]),
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units of one or more resources, reserved under one token."""

    token: UUID
    items: tuple[Item, ...]
    status: Status
    expires_at: datetime
    reacquired: bool = False
    """Whether it was committed after its deadline, with stock that was still available."""

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(
            token=UUID(fields["token"]),
            items=tuple(Item(item["resourceId"], item["quantity"]) for item in fields["items"]),
            status=Status(fields["status"]),
            expires_at=datetime.fromisoformat(fields["expiresAt"]),
            reacquired=fields.get("reacquired", False),
        )


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A relative change of a resource's total, and its reason."""

    resource_id: str
    difference: int
    reason: str
    total_stock: int
    """The total after the change."""
    created_at: datetime

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(
            resource_id=fields["resourceId"],
            difference=fields["difference"],
            reason=fields["reason"],
            total_stock=fields["totalStock"],
            created_at=datetime.fromisoformat(fields["createdAt"]),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a resource's stock, or of a reservation's item of it."""

    id: UUID
    """The same in every delivery of the event: deduplicate by it."""
    type: str
    resource_id: str
    value: int
    """Units available after a stock event; units of the item for a reservation event."""
    sequence: int | None
    """Counts the stock events of a resource without gaps; None for reservation events."""
    timestamp: datetime
    tokens: tuple[UUID, ...]

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(
            id=UUID(fields["id"]),
            type=fields["type"],
            resource_id=fields["resourceId"],
            value=fields["value"],
            sequence=fields.get("sequence"),
            timestamp=datetime.fromisoformat(fields["timestamp"]),
            tokens=tuple(UUID(token) for token in fields.get("tokens", ())),
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, oldest first, and the `cursor` of the next page."""

    events: tuple[Event, ...]
    cursor: str

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(tuple(map(Event.from_json, fields["events"])), fields["cursor"])


@dataclass(frozen=True, slots=True)
class Health:
    """The health of the API. `status` is ok, degraded or unavailable."""

    status: str
    postgres: str
    redis: str


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of one row of a batch."""

    outcome: str
    """`created`, `changed`, `unchanged`, or the error code if the row was refused."""
    reason: str = ""
    """Details, if the row was refused."""

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """Parse the API's JSON object."""
        return cls(fields["outcome"], reason_of(fields))


def reason_of(fields: Fields) -> str:
    """The specific reason that a problem document or a refused row gives; empty if it has none."""
    if "allocatedStock" in fields:
        return f"{fields['allocatedStock']} units are held or committed"
    if "errors" in fields:
        errors = [(error["pointer"].strip("/"), error["message"]) for error in fields["errors"]]
        return "; ".join(f"{field}: {message}".removeprefix(": ") for field, message in errors)
    if "resourceId" in fields and "code" in fields:
        return str(fields["resourceId"])
    if "version" in fields:
        return f"the version is {fields['version']}"
    return str(fields.get("reservationStatus", ""))
