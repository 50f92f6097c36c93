"""What the scheduled functions ask of Postgres, in batches. Each function is one round trip."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openreserve.domain.reservations import (
    Deadline,
    Expired,
)
from openreserve.postgres import connection
from openreserve.runtime.settings import settings


def ping() -> int:
    """The number of the newest migration that Postgres has.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    return int(connection.row("maintenance", "ping")["schema_number"])


def expire(tokens: Sequence[UUID] | None, batch_size: int) -> Expired:
    """Close a batch of holds that are over: of these tokens, or of all. A repeat closes nothing.

    Raises:
        Contention, DatabaseUnavailable: nobody knows whether the batch was closed; ask again.
    """
    wanted = None if tokens is None else list(tokens)
    row = connection.row("maintenance", "expire", tokens=wanted, batch_size=batch_size)
    return Expired(tuple(row["lags_ms"]), frozenset(row["still_held"]))


def list_deadlines(within_seconds: int, after: Deadline | None, limit: int) -> list[Deadline]:
    """At most `limit` deadlines of live holds that end soon, those behind `after`."""
    start = after or Deadline(datetime.min.replace(tzinfo=UTC), UUID(int=0))
    rows = connection.rows(
        "maintenance",
        "list_deadlines",
        within_seconds=within_seconds,
        after=start.expires_at,
        after_token=start.token,
        limit=limit,
    )
    return [Deadline(**row) for row in rows]


def take_reclaims() -> int:
    """How many holds were closed since the last time because somebody wanted their stock.

    Raises:
        Contention, DatabaseUnavailable: they may have been taken, and are then told of by nobody.
    """
    return int(connection.row("maintenance", "take_reclaims")["closed"])


def audit_counters(batch_size: int) -> tuple[int, list[dict[str, Any]]]:
    """Check the next resources in turn: how many, and those whose counter is wrong.

    Raises:
        Contention, DatabaseUnavailable: nothing was checked; the next call checks the same ones.
    """
    row = connection.row("maintenance", "audit_counters", batch_size=batch_size)
    return row["checked"], row["drifting"]


def purge(batch_size: int) -> dict[str, int]:
    """Delete a batch of what is past its retention; how many `keys`, `reservations` and `events`.

    Raises:
        Contention, DatabaseUnavailable: nobody knows whether the batch was deleted; ask again.
    """
    (row,) = connection.rows(
        "maintenance",
        "purge",
        key_hours=settings().key_retention_hours,
        reservation_days=settings().reservation_retention_days,
        event_days=settings().event_retention_days,
        batch_size=batch_size,
    )
    return row
