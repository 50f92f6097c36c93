"""What the scheduled functions ask of Postgres, in batches. Each function is one round trip."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openreserve import database
from openreserve.holds import Deadline, Expired
from openreserve.ledger import event
from openreserve.settings import settings
from openreserve.sql import statements
from openreserve.stock import Event, Place


def expire(tokens: Sequence[UUID] | None, batch_size: int) -> Expired:
    """Close a batch of holds that are over: of these tokens, or of all. A repeat closes nothing.

    Raises:
        Contention, DatabaseUnavailable: nobody knows whether the batch was closed; ask again.
    """
    wanted = None if tokens is None else list(tokens)
    row = _all("expire", tokens=wanted, batch_size=batch_size)[0]
    return Expired(tuple(row["lags_ms"]), frozenset(row["still_held"]))


def list_deadlines(within_seconds: int, after: Deadline | None, limit: int) -> list[Deadline]:
    """At most `limit` deadlines of live holds that end soon, those behind `after`."""
    start = after or Deadline(datetime.min.replace(tzinfo=UTC), UUID(int=0))
    rows = _all(
        "list_deadlines",
        within_seconds=within_seconds,
        after=start.expires_at,
        after_token=start.token,
        limit=limit,
    )
    return [Deadline(**row) for row in rows]


def claim_events(claim_seconds: int, limit: int) -> list[tuple[Event, int]]:
    """At most `limit` events to hand on, with their ages in milliseconds.

    For `claim_seconds` nobody else gets them; then they can be claimed again, if they were not
    marked as handed on.

    Raises:
        Contention, DatabaseUnavailable: if they were claimed nevertheless, the claim runs out.
    """
    rows = _all("claim_events", claim_seconds=claim_seconds, limit=limit)
    return [(event(row), row["age_ms"]) for row in rows]


def mark_handed_on(places: Sequence[Place]) -> None:
    """Never hand these on again. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: they may be handed on once more.
    """
    _all(
        "mark_handed_on",
        written_by=[str(place.written_by) for place in places],
        positions=[place.position for place in places],
    )


def take_reclaims() -> int:
    """How many holds were closed since the last time because somebody wanted their stock.

    Raises:
        Contention, DatabaseUnavailable: they may have been taken, and are then told of by nobody.
    """
    return int(_all("take_reclaims")[0]["closed"])


def check_books(batch_size: int) -> tuple[int, list[dict[str, Any]]]:
    """Check the next resources in turn: how many, and those whose counter is wrong.

    Raises:
        Contention, DatabaseUnavailable: nothing was checked; the next call checks the same ones.
    """
    row = _all("check_books", batch_size=batch_size)[0]
    return row["checked"], row["drifting"]


def purge(batch_size: int) -> dict[str, int]:
    """Delete a batch of what is past its retention; how many `keys`, `reservations` and `events`.

    Raises:
        Contention, DatabaseUnavailable: nobody knows whether the batch was deleted; ask again.
    """
    (row,) = _all(
        "purge",
        key_hours=settings().key_retention_hours,
        reservation_days=settings().reservation_retention_days,
        event_days=settings().event_retention_days,
        batch_size=batch_size,
    )
    return row


def _all(name: str, **parameters: Any) -> list[database.Row]:
    return database.fetch_all(getattr(statements("upkeep"), name), parameters)
