"""Resources and what they are asked for. Pure: no clock, no database, no HTTP."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

RESOURCE_ID_LENGTH_MAX = 200
TOTAL_STOCK_MAX = 10**12
"""Units. Far above any shop, far below where sums of bigint could overflow."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """Some units of one resource."""

    resource_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of all events: behind everything that was written before."""

    written_by: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing with stock, as it stands: expired holds count as available.

    total_stock = available_stock + held_stock + committed_stock, each at least 0.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    held_stock: int
    committed_stock: int
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Total:
    """How many units there shall be of a resource, in all."""

    resource_id: str
    total_stock: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A total that was moved by a difference, and why."""

    resource_id: str
    difference: int
    reason: str
    total_stock: int
    """After it."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource's stock, or to a reservation's item of it."""

    event_id: UUID
    type: str
    resource_id: str
    value: int
    """Units that are available after it; or of the reservation's item."""
    sequence: int | None
    """Counts the stock events of the resource, without a gap; None for those of reservations."""
    tokens: tuple[UUID, ...]
    created_at: datetime
    place: Place
    """Where it stands among all events."""


def summed(lines: Iterable[Item]) -> tuple[Item, ...]:
    """The lines with those of one resource added up, in the order in which rows are locked.

    That order is by code point, which for UTF-8 is the byte order of Postgres's collation "C".
    """
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.resource_id] += line.quantity
    return tuple(Item(*entry) for entry in sorted(quantities.items()))


def is_resource_id(text: str) -> bool:
    """Whether the text can name a resource: 1 to 200 printable characters, none of them a slash."""
    return 1 <= len(text) <= RESOURCE_ID_LENGTH_MAX and text.isprintable() and "/" not in text
