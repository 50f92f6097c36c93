"""The prompt path: called every minute, stays for its minute, closes each hold as it ends.

Beside that, in a thread of its own, it hands events on as they are written.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openreserve.cache import connection as cache_connection
from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.postgres import connection as postgres_connection
from openreserve.postgres import maintenance
from openreserve.runtime import telemetry
from openreserve.runtime.settings import settings
from openreserve.webhooks import outbox

BREATH_SECONDS = 0.05
"""Between two looks that found nothing to do though there should be: a lock, or a clock, is off.
And between two looks for events: what comes meanwhile goes in one batch."""
WITHOUT_SECONDS = 1.0
"""Between two tries to reach Redis or Postgres."""

Left = Callable[[], float]
"""How many seconds of the stay are left."""


def handler(_event: Any, _context: Any) -> dict[str, int]:
    """Close holds and hand events on until the stay is over. Two copies may overlap."""
    until = time.monotonic() + settings().expire_stay_seconds

    def left() -> float:
        return until - time.monotonic()

    with ThreadPoolExecutor(1) as beside:
        handed_on = beside.submit(_hand_events_on, left)
        closed = _close_holds(left)
        return {"closed": closed, "handedOn": handed_on.result()}


def _close_holds(left: Left) -> int:
    closed = 0
    while (left_seconds := left()) > 0:
        due = hints.wait_for_due(left_seconds, settings().expire_batch_size)
        if due is None:
            time.sleep(min(WITHOUT_SECONDS, left_seconds))
            continue
        if not due:
            continue
        try:
            expired = maintenance.expire(due, settings().expire_batch_size)
        except errors.Fault:
            time.sleep(min(WITHOUT_SECONDS, left_seconds))
            continue
        hints.forget_holds(*set(due) - expired.still_held)
        telemetry.emit_expired(expired.lags_ms, path="prompt")
        closed += len(expired.lags_ms)
        if expired.still_held:
            time.sleep(BREATH_SECONDS)
    return closed


def _hand_events_on(left: Left) -> int:
    """Wait for news, and hand on until nothing waits. Without Redis, reconcile does it."""
    handed_on = 0
    try:
        while (left_seconds := left()) > 0:
            news = hints.wait_for_news(left_seconds)
            if not news:
                time.sleep(WITHOUT_SECONDS if news is None else 0)
                continue
            try:
                while batch := outbox.publish():
                    handed_on += batch
                time.sleep(BREATH_SECONDS)
            except errors.Fault:
                time.sleep(WITHOUT_SECONDS)
    finally:  # this thread ends, and what belongs to it with it
        postgres_connection.disconnect()
        cache_connection.disconnect()
    return handed_on
