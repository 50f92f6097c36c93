"""Events in Postgres: list them, claim them for publishing. Each function is one round trip."""

from collections.abc import Sequence

from openreserve.domain.events import Event, EventCursor
from openreserve.postgres import connection


def list_events(after: EventCursor, limit: int) -> list[Event]:
    """At most `limit` events after the cursor, in an order that never misses an event."""
    rows = connection.rows(
        "events",
        "list_events",
        written_by=str(after.written_by),
        position=after.position,
        limit=limit,
    )
    return [event(row) for row in rows]


def event(row: connection.Row) -> Event:
    """The event in a row of the table."""
    return Event(
        event_id=row["event_id"],
        type=row["type"],
        resource_id=row["resource_id"],
        value=row["value"],
        sequence=row["sequence"],
        tokens=tuple(row["tokens"]),
        created_at=row["created_at"],
        cursor=EventCursor(int(row["written_by"]), row["position"]),
    )


def find_place_before_newest(count: int) -> EventCursor:
    """The cursor before the newest `count` events; the beginning, if there are fewer.

    Events written in the meantime are listed after them.
    """
    for row in connection.rows("events", "find_place_before_newest", count=count):
        return EventCursor(int(row["written_by"]), row["position"])
    return EventCursor()


def claim_events(claim_seconds: int, limit: int) -> list[tuple[Event, int]]:
    """At most `limit` unpublished events, with their ages in milliseconds.

    No other publisher gets them for `claim_seconds`. After that, events that are not marked as
    published can be claimed again.

    Raises:
        Contention, DatabaseUnavailable: events that were claimed anyway are free when it expires.
    """
    rows = connection.rows("events", "claim_events", claim_seconds=claim_seconds, limit=limit)
    return [(event(row), row["age_ms"]) for row in rows]


def mark_published(cursors: Sequence[EventCursor]) -> None:
    """Mark the events at these cursors as published. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: they may be published again.
    """
    connection.rows(
        "events",
        "mark_published",
        written_by=[str(cursor.written_by) for cursor in cursors],
        positions=[cursor.position for cursor in cursors],
    )
