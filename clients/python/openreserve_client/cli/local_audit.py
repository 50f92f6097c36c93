"""Audits over a direct connection to Postgres. The only module that imports the server package."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from openreserve_client.cli.audit_results import AuditFailed, Check, Drift, Repair


def check(database_url: str, timeout_seconds: float, **connection_options: Any) -> Check:
    """Recompute all counters from the reservations, in one snapshot.

    Raises:
        AuditFailed: the server package is not installed, or Postgres failed.
    """
    audit = _server_audit()
    try:
        result = audit.check(database_url, timeout_seconds, **connection_options)
    except audit.AuditFailed as error:
        raise AuditFailed(str(error)) from error
    drift = tuple(Drift(**asdict(row)) for row in result.drift)
    return Check(result.resources, result.reservations, drift, result.not_listed)


def repair(
    database_url: str, resource_ids: list[str], reason: str, timeout_seconds: float
) -> Iterator[tuple[str, Repair]]:
    """Set each counter to the value that the reservations give.

    Raises:
        AuditFailed: as check. The repairs yielded before it are done.
    """
    audit = _server_audit()
    try:
        for resource_id, result in audit.repair(
            database_url, resource_ids, reason, timeout_seconds
        ):
            yield resource_id, Repair(**asdict(result))
    except audit.AuditFailed as error:
        raise AuditFailed(str(error)) from error


def _server_audit() -> Any:
    try:
        from openreserve.postgres import audit  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        raise AuditFailed(
            f"{error.name} is not installed: run this in a checkout of the project, or use --stage"
        ) from None
    return audit
