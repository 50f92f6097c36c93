"""Checks and repairs the counters over a direct connection. Invoked by `openreserve --stage`."""

from dataclasses import asdict
from typing import Any

from openreserve.postgres import audit
from openreserve.runtime.settings import settings

SPARE_SECONDS = 20
"""Remaining time at which Postgres gives up, so that the response still arrives."""
DRIFT_MAX = 5_000
"""Rows of drift in one response: Lambda limits it to 6 MB."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Verify all counters, or repair those of `resourceIds` for `reason`, if the event has them.

    A response with `error` also contains the repairs before it. A repeat is harmless.
    """
    seconds = context.get_remaining_time_in_millis() / 1_000 - SPARE_SECONDS
    if "timeoutSeconds" in event:
        seconds = min(seconds, event["timeoutSeconds"])
    if "resourceIds" in event:
        return _repair(event["resourceIds"], event["reason"], seconds)
    return _check(seconds)


def _check(seconds: float) -> dict[str, Any]:
    try:
        found = audit.check(settings().migration_url, seconds, secret_arn=_secret())
    except audit.AuditFailed as failure:
        return {"error": str(failure)}
    return {
        "resources": found.resources,
        "reservations": found.reservations,
        "drifting": len(found.drift),
        "drift": [asdict(row) for row in found.drift[:DRIFT_MAX]],
    }


def _repair(resource_ids: list[str], reason: str, seconds: float) -> dict[str, Any]:
    """Repair each resource within its share of the time."""
    if not reason:
        raise ValueError("a repair needs a reason")
    done: list[dict[str, Any]] = []
    share = seconds / max(1, len(resource_ids))
    url = settings().migration_url
    try:
        for resource_id, repair in audit.repair(
            url, resource_ids, reason, share, secret_arn=_secret()
        ):
            done.append({"resource_id": resource_id, **asdict(repair)})
    except audit.AuditFailed as failure:
        return {"repairs": done, "error": str(failure)}
    return {"repairs": done}


def _secret() -> str:
    return settings().migration_secret_arn
