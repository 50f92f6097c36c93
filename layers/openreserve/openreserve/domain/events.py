"""Events: what happened to stock and reservations, and their order. Pure: no clock, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class EventCursor:
    """A place in the order of all events: behind everything that was written before."""

    written_by: int = 0
    position: int = 0


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
    place: EventCursor
    """Where it stands among all events."""
