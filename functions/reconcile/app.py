"""The net: each minute closes from Postgres alone what nobody closed, mends Redis, and purges."""

from typing import Any

from openreserve import cache, expiry, ledger
from openreserve.holds import Deadline
from openreserve.settings import settings

SPARE_MS = 5_000
"""What is left of the function's time when it stops: the next call, in a minute, goes on."""
DEADLINES_AT_A_TIME = 1_000
PURGED_AT_A_TIME = 1_000


def handler(_event: Any, context: Any) -> dict[str, int]:
    """Close what is over, in batches, until nothing is left or time is up. A repeat is harmless.

    Raises:
        Fault: Postgres did not answer. What was closed so far stays closed.
    """
    closed, batch_size = 0, settings().expire_batch_size
    while context.get_remaining_time_in_millis() > SPARE_MS:
        expired = ledger.expire(None, batch_size)
        expiry.account(expired, path="net")
        closed += len(expired.lags_ms)
        if len(expired.lags_ms) < batch_size:
            break
    deadlines = _write_deadlines_anew(context) if cache.ping() else 0
    return {"closed": closed, "deadlines": deadlines, "purged": _purge(context)}


def _purge(context: Any) -> int:
    """Delete what is past its retention, as far as the time goes, and return how many rows."""
    purged = 0
    while context.get_remaining_time_in_millis() > SPARE_MS:
        batch = ledger.purge(PURGED_AT_A_TIME)
        purged += sum(batch.values())
        if max(batch.values()) < PURGED_AT_A_TIME:
            break
    return purged


def _write_deadlines_anew(context: Any) -> int:
    """Tell Redis the deadlines up to well behind the next call, and return how many there were."""
    written, last = 0, None
    while context.get_remaining_time_in_millis() > SPARE_MS:
        deadlines: list[Deadline] = ledger.list_deadlines(
            settings().deadline_horizon_seconds, last, DEADLINES_AT_A_TIME
        )
        cache.remember_deadlines(deadlines)
        written += len(deadlines)
        if len(deadlines) < DEADLINES_AT_A_TIME:
            break
        last = deadlines[-1]
    return written
