"""Events in Postgres: list them, claim them for delivery. Each function is one round trip."""

from collections.abc import Sequence

from openreserve.domain.events import Event, EventCursor
from openreserve.postgres import connection


def list_events(after: EventCursor, limit: int) -> list[Event]:
    """At most `limit` events behind the place, in the order in which nothing is ever missed."""
    rows = connection.rows(
        "events",
        "list_events",
        written_by=str(after.written_by),
        position=after.position,
        limit=limit,
    )
    return [event(row) for row in rows]


def event(row: connection.Row) -> Event:
    """The event that a row of the table tells of."""
    return Event(
        event_id=row["event_id"],
        type=row["type"],
        resource_id=row["resource_id"],
        value=row["value"],
        sequence=row["sequence"],
        tokens=tuple(row["tokens"]),
        created_at=row["created_at"],
        place=EventCursor(int(row["written_by"]), row["position"]),
    )


def find_place_before_newest(count: int) -> EventCursor:
    """The place from which on so many events are listed; the beginning, if there are not as many.

    An event that comes meanwhile is listed behind them.
    """
    for row in connection.rows("events", "find_place_before_newest", count=count):
        return EventCursor(int(row["written_by"]), row["position"])
    return EventCursor()


def claim_events(claim_seconds: int, limit: int) -> list[tuple[Event, int]]:
    """At most `limit` events to hand on, with their ages in milliseconds.

    For `claim_seconds` nobody else gets them; then they can be claimed again, if they were not
    marked as handed on.

    Raises:
        Contention, DatabaseUnavailable: if they were claimed nevertheless, the claim runs out.
    """
    rows = connection.rows("events", "claim_events", claim_seconds=claim_seconds, limit=limit)
    return [(event(row), row["age_ms"]) for row in rows]


def mark_published(places: Sequence[EventCursor]) -> None:
    """Never hand these on again. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: they may be handed on once more.
    """
    connection.rows(
        "events",
        "mark_published",
        written_by=[str(place.written_by) for place in places],
        positions=[place.position for place in places],
    )
