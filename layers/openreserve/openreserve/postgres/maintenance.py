"""Scheduled maintenance in Postgres, in batches. Each function is one round trip."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openreserve.domain.reservations import Deadline, Expired
from openreserve.postgres import connection
from openreserve.runtime.settings import settings


def ping() -> int:
    """The number of the newest applied migration.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    return int(connection.row("maintenance", "ping")["schema_number"])


def expire(tokens: Sequence[UUID] | None, batch_size: int) -> Expired:
    """Close a batch of expired holds: those of `tokens`, or of all. A repeat closes no hold twice.

    Raises:
        Contention, DatabaseUnavailable: it is unknown whether the batch was closed; call again.
    """
    listed = None if tokens is None else list(tokens)
    row = connection.row("maintenance", "expire", tokens=listed, batch_size=batch_size)
    return Expired(tuple(row["lags_ms"]), frozenset(row["still_held"]))


def list_deadlines(within_seconds: int, after: Deadline | None, limit: int) -> list[Deadline]:
    """At most `limit` deadlines of holds within the next `within_seconds`, after `after`."""
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
    """The number of holds that reclaims have closed since the last call.

    Raises:
        Contention, DatabaseUnavailable: the count may be lost.
    """
    return int(connection.row("maintenance", "take_reclaims")["closed"])


def audit_counters(batch_size: int) -> tuple[int, list[dict[str, Any]]]:
    """Check the next batch of resources: the number checked, and those whose counter is wrong.

    Raises:
        Contention, DatabaseUnavailable: nothing was checked; the next call checks the same batch.
    """
    row = connection.row("maintenance", "audit_counters", batch_size=batch_size)
    return row["checked"], row["drifting"]


def purge(batch_size: int) -> dict[str, int]:
    """Delete a batch of rows past their retention; the counts of `keys`, `reservations`, `events`.

    Raises:
        Contention, DatabaseUnavailable: it is unknown whether the batch was deleted; call again.
    """
    return connection.row(
        "maintenance",
        "purge",
        key_hours=settings().key_retention_hours,
        reservation_days=settings().reservation_retention_days,
        event_days=settings().event_retention_days,
        batch_size=batch_size,
    )
