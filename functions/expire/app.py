"""The prompt expiry: called every minute, stays for its minute, closes each hold as it ends."""

import time
from typing import Any

from openreserve import cache, errors, expiry, ledger
from openreserve.settings import settings

BREATH_SECONDS = 0.05
"""Between two looks that found nothing to do though there should be: a lock, or a clock, is off."""
WITHOUT_SECONDS = 1.0
"""Between two tries to reach Redis or Postgres."""


def handler(_event: Any, _context: Any) -> dict[str, int]:
    """Close holds at their deadlines until the stay is over. Two copies may overlap."""
    until = time.monotonic() + settings().expire_stay_seconds
    closed = 0
    while (left_seconds := until - time.monotonic()) > 0:
        due = cache.wait_for_due(left_seconds, settings().expire_batch_size)
        if due is None:
            time.sleep(min(WITHOUT_SECONDS, left_seconds))
            continue
        if not due:
            continue
        try:
            expired = ledger.expire(due, settings().expire_batch_size)
        except errors.Fault:
            time.sleep(min(WITHOUT_SECONDS, left_seconds))
            continue
        cache.forget_holds(*set(due) - expired.still_held)
        expiry.account(expired, path="prompt")
        closed += len(expired.lags_ms)
        if expired.still_held:
            time.sleep(BREATH_SECONDS)
    return {"closed": closed}
