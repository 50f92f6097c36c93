"""The net: each minute does from Postgres alone what nobody did, mends Redis, checks and purges."""

from typing import Any

from openreserve.cache import hints
from openreserve.domain.reservations import Deadline
from openreserve.postgres import maintenance
from openreserve.runtime import telemetry
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit, logger
from openreserve.webhooks import outbox

SPARE_MS = 5_000
"""What is left of the function's time when it stops: the next call, in a minute, goes on."""
DEADLINES_AT_A_TIME = 1_000
PURGED_AT_A_TIME = 1_000


def handler(_event: Any, context: Any) -> dict[str, int]:
    """Close what is over, in batches, until nothing is left or time is up; then all the rest.

    A repeat is harmless, and so is a second copy at the same time.

    Raises:
        Fault: Postgres did not answer. What was closed so far stays closed.
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
        "handedOn": _hand_events_on(context),
        "deadlines": _write_deadlines_anew(context) if hints.ping() else 0,
        "purged": _purge(context),
        "drifting": _audit_counters(),
    }


def _hand_events_on(context: Any) -> int:
    """Hand on what nobody has, as far as the time goes, and return how many events."""
    handed_on = 0
    while context.get_remaining_time_in_millis() > SPARE_MS:
        batch = outbox.publish()
        handed_on += batch
        if not batch:
            break
    return handed_on


def _audit_counters() -> int:
    """Check some resources, the next ones next time, and return how many have a wrong counter."""
    checked, drifting = maintenance.audit_counters(settings().audit_batch_size)
    for resource in drifting:
        logger().error("The books do not agree with the counter", extra=resource)
    emit({"ResourcesChecked": checked, "ResourcesDrifting": len(drifting)})
    return len(drifting)


def _purge(context: Any) -> int:
    """Delete what is past its retention, as far as the time goes, and return how many rows."""
    purged = 0
    while context.get_remaining_time_in_millis() > SPARE_MS:
        batch = maintenance.purge(PURGED_AT_A_TIME)
        purged += sum(batch.values())
        if max(batch.values()) < PURGED_AT_A_TIME:
            break
    return purged


def _write_deadlines_anew(context: Any) -> int:
    """Tell Redis the deadlines up to well behind the next call, and return how many there were."""
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
