"""Compares the counters with the reservations, and repairs them. For operators.

The command line and AuditFunction use it. It opens a direct connection as the owner.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from openreserve.postgres import owner
from openreserve.postgres.sql import statements

CONNECT_TIMEOUT_SECONDS = 5
LOCK_TIMEOUT = "5s"
"""How long a repair waits for a row lock. The owner's role has no limit of its own."""


class AuditFailed(Exception):
    """The counters were not checked or not repaired: Postgres failed."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A resource whose counter or item marks disagree with its reservations.

    difference = total_stock - available_stock - held_stock - committed_stock. Correct: 0.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    """The counter."""
    held_stock: int
    """The sum over reservations."""
    committed_stock: int
    """The sum over reservations."""
    wrong_marks: int
    """The number of items whose held_until or returned disagrees with the reservation."""
    difference: int
    """How many units the counter is too low; negative: too high."""


@dataclass(frozen=True, slots=True)
class Check:
    """The scope and the result of a check, in one snapshot."""

    resources: int
    reservations: int
    drift: tuple[Drift, ...]
    not_listed: int = 0
    """The number of drifting resources that `drift` leaves out: AuditFunction limits its list."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair."""

    outcome: str
    """clean, repaired, oversold or unknown_resource."""
    difference: int
    """The change of available_stock; if oversold, the number of missing units."""
    marks_mended: int
    """The number of items whose held_until or returned was corrected."""


def check(
    database_url: str, timeout_seconds: float, *, secret_arn: str = "", **overrides: Any
) -> Check:
    """Recompute all counters from the reservations, in one snapshot, while traffic runs.

    `timeout_seconds` is for all statements together. `secret_arn`: the secret with the password, if
    the URL has none.

    Raises:
        AuditFailed: Postgres is unreachable, or took too long.
    """
    queries = statements("audit")
    deadline = time.monotonic() + timeout_seconds
    with (
        _connected(database_url, secret_arn, **overrides) as connection,
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        results = []
        for query in (queries.count, queries.find_drift):
            left_ms = max(1, int((deadline - time.monotonic()) * 1_000))
            connection.execute(queries.limit_statement_time, {"timeout_ms": left_ms})
            results.append(connection.execute(query).fetchall())
    (counts,), drift = results
    return Check(**counts, drift=tuple(Drift(**row) for row in drift))


def repair(
    database_url: str,
    resource_ids: list[str],
    reason: str,
    timeout_seconds: float,
    *,
    secret_arn: str = "",
) -> Iterator[tuple[str, Repair]]:
    """Set each counter to the sum of the reservations, and store the reason. A repeat is clean.

    `timeout_seconds` is for each resource.

    Raises:
        AuditFailed: Postgres is unreachable, or failed; resources yielded before are repaired.
    """
    # As options of the connection: a procedure that rolls back would undo a SET in its transaction.
    # A pooling proxy rejects options, so the connection must be direct.
    limits = f"-c statement_timeout={int(timeout_seconds * 1_000)} -c lock_timeout={LOCK_TIMEOUT}"
    with _connected(database_url, secret_arn, options=limits) as connection:
        for resource_id in resource_ids:
            parameters = {"resource_id": resource_id, "reason": reason}
            (row,) = connection.execute(statements("audit").repair, parameters).fetchall()
            yield resource_id, Repair(**row)


@contextmanager
def _connected(
    database_url: str, secret_arn: str, **overrides: Any
) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    try:
        with owner.connected(
            database_url,
            secret_arn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            row_factory=dict_row,
            **overrides,
        ) as connection:
            yield connection
    except (psycopg.Error, owner.SecretUnreadable) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AuditFailed(reason) from error
