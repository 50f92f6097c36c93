"""Brings the schema up to date. Invoked by a deployment, before the new code gets traffic."""

from typing import Any

from openreserve.postgres.migrations import migrate
from openreserve.runtime.settings import settings


def handler(_event: Any, _context: Any) -> dict[str, list[str]]:
    """Apply missing migrations and changed routines, and return their names. All or nothing."""
    applied = migrate(
        settings().migration_url,
        secret_arn=settings().migration_secret_arn,
        reservation_events=bool(settings().reservation_events),
    )
    return {"applied": applied}
