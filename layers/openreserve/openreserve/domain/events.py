"""Events of stock and reservations, and their order. Pure: no clock, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class EventCursor:
    """A position in the order of all events. Without arguments, the beginning."""

    written_by: int = 0
    """The transaction id of the writer."""
    position: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a resource's stock, or of the status of a reservation's item."""

    event_id: UUID
    type: str
    resource_id: str
    value: int
    """Stock event: the units available after it. Reservation event: the quantity of the item."""
    sequence: int | None
    """Counts the stock events of the resource without gaps; None for reservation events."""
    tokens: tuple[UUID, ...]
    created_at: datetime
    cursor: EventCursor
    """Its position in the order of all events."""
