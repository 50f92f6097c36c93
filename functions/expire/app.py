"""The prompt path of expiry: runs for its minute and closes each hold at its deadline.

A second thread publishes events as they are written.
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

POLL_PAUSE_SECONDS = 0.05
"""Pause after a due hold could not be closed (it is locked, or Redis's clock is ahead), and between
two batches of events."""
RECONNECT_PAUSE_SECONDS = 1.0
"""Pause between two attempts to reach Redis or Postgres."""

Left = Callable[[], float]
"""Returns the remaining seconds of this run."""


def handler(_event: Any, _context: Any) -> dict[str, int]:
    """Close holds and publish events for `EXPIRE_STAY_SECONDS`. Concurrent runs are harmless."""
    until = time.monotonic() + settings().expire_stay_seconds

    def left() -> float:
        return until - time.monotonic()

    with ThreadPoolExecutor(1) as executor:
        published = executor.submit(_publish_events, left)
        closed = _close_holds(left)
        return {"closed": closed, "handedOn": published.result()}


def _close_holds(left: Left) -> int:
    closed = 0
    while (left_seconds := left()) > 0:
        due = hints.wait_for_due(left_seconds, settings().expire_batch_size)
        if due is None:
            time.sleep(min(RECONNECT_PAUSE_SECONDS, left_seconds))
            continue
        if not due:
            continue
        try:
            expired = maintenance.expire(due, settings().expire_batch_size)
        except errors.Fault:
            time.sleep(min(RECONNECT_PAUSE_SECONDS, left_seconds))
            continue
        hints.forget_holds(*set(due) - expired.still_held)
        telemetry.emit_expired(expired.lags_ms, path="prompt")
        closed += len(expired.lags_ms)
        if expired.still_held:
            time.sleep(POLL_PAUSE_SECONDS)
    return closed


def _publish_events(left: Left) -> int:
    """Wait for events and publish them. Without Redis, reconcile publishes them."""
    published = 0
    try:
        while (left_seconds := left()) > 0:
            news = hints.wait_for_news(left_seconds)
            if not news:
                time.sleep(RECONNECT_PAUSE_SECONDS if news is None else 0)
                continue
            try:
                while batch := outbox.publish():
                    published += batch
                time.sleep(POLL_PAUSE_SECONDS)
            except errors.Fault:
                time.sleep(RECONNECT_PAUSE_SECONDS)
    finally:  # connections belong to the thread, which ends here
        postgres_connection.disconnect()
        cache_connection.disconnect()
    return published
