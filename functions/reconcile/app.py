"""The scheduled sweep: closes expired holds from Postgres alone; publishes, audits, purges."""

from typing import Any

from openreserve.cache import hints
from openreserve.domain.reservations import Deadline
from openreserve.postgres import maintenance
from openreserve.runtime import telemetry
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit, logger
from openreserve.webhooks import outbox

SPARE_MS = 5_000
"""Remaining time at which the function stops. The next run, a minute later, continues."""
DEADLINES_AT_A_TIME = 1_000
PURGED_AT_A_TIME = 1_000


def handler(_event: Any, context: Any) -> dict[str, int]:
    """Close expired holds in batches until none is left or time is up, then do the other tasks.

    A repeat is harmless, and so are concurrent runs.

    Raises:
        Fault: Postgres did not respond. Holds closed so far stay closed.
    """
    closed, batch_size = 0, settings().expire_batch_size
    while context.get_remaining_time_in_millis() > SPARE_MS:
        expired = maintenance.expire(None, batch_size)
        telemetry.emit_expired(expired.lags_ms, path="net")
        closed += len(expired.lags_ms)
        if len(expired.lags_ms) < batch_size:
            break
    telemetry.emit_reclaimed(maintenance.take_reclaims())
    return {
        "closed": closed,
        "handedOn": _publish_events(context),
        "deadlines": _restore_deadlines(context) if hints.ping() else 0,
        "purged": _purge(context),
        "drifting": _audit_counters(),
    }


def _publish_events(context: Any) -> int:
    """Publish unpublished events until none is left or time is up; the number of events."""
    published = 0
    while context.get_remaining_time_in_millis() > SPARE_MS:
        batch = outbox.publish()
        published += batch
        if not batch:
            break
    return published


def _audit_counters() -> int:
    """Audit the next batch of resources; the number of wrong counters."""
    checked, drifting = maintenance.audit_counters(settings().audit_batch_size)
    for resource in drifting:
        logger().error("The counter does not agree with the reservations", extra=resource)
    emit({"ResourcesChecked": checked, "ResourcesDrifting": len(drifting)})
    return len(drifting)


def _purge(context: Any) -> int:
    """Delete rows past their retention until none is left or time is up; the number of rows."""
    purged = 0
    while context.get_remaining_time_in_millis() > SPARE_MS:
        batch = maintenance.purge(PURGED_AT_A_TIME)
        purged += sum(batch.values())
        if max(batch.values()) < PURGED_AT_A_TIME:
            break
    return purged


def _restore_deadlines(context: Any) -> int:
    """Write the deadlines of the near future into Redis, which may have lost them; the number."""
    written, last = 0, None
    while context.get_remaining_time_in_millis() > SPARE_MS:
        deadlines: list[Deadline] = maintenance.list_deadlines(
            settings().deadline_horizon_seconds, last, DEADLINES_AT_A_TIME
        )
        hints.remember_deadlines(deadlines)
        written += len(deadlines)
        if len(deadlines) < DEADLINES_AT_A_TIME:
            break
        last = deadlines[-1]
    return written
