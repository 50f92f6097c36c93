"""Audit: whether the counters match the reservations, and their repair. For operators.

Opens a direct connection of its own, from the command line or from AuditFunction.
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
"""How long a repair waits for a row that others have locked; the owner has no such limit."""


class AuditFailed(Exception):
    """The books were not checked, or not mended: Postgres did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A resource whose counter, or whose marks, are not what its reservations say.

    total_stock - available_stock - held_stock - committed_stock = difference, which is 0 in order.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    """What the counter says."""
    held_stock: int
    """What the reservations say."""
    committed_stock: int
    """What the reservations say."""
    wrong_marks: int
    """Items that are marked as held, or not, unlike their reservations."""
    difference: int
    """By how much the counter is too low; below zero: too high."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check covered, all in one snapshot, and what it found."""

    resources: int
    reservations: int
    drift: tuple[Drift, ...]
    not_listed: int = 0
    """How many more resources drift than `drift` has: a stage lists only so many at once."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a repair: clean, repaired, oversold or unknown_resource."""

    outcome: str
    difference: int
    """By how much available_stock was moved; oversold: how many units there are too few."""
    marks_mended: int


def check(
    database_url: str, timeout_seconds: float, *, secret_arn: str = "", **overrides: Any
) -> Check:
    """Recompute everything from the reservations, in one snapshot, while traffic runs.

    `timeout_seconds` is for all statements together. `secret_arn`: the secret that has the
    password, if the URL does not.

    Raises:
        AuditFailed: Postgres was not reached, or took too long.
    """
    names = statements("audit")
    over = time.monotonic() + timeout_seconds
    with (
        _connected(database_url, secret_arn, **overrides) as connection,
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        answers = []
        for statement in (names.count, names.find_drift):
            left_ms = max(1, int((over - time.monotonic()) * 1_000))
            connection.execute(names.allow, {"timeout_ms": left_ms})
            answers.append(connection.execute(statement).fetchall())
    (counts,), drift = answers
    return Check(**counts, drift=tuple(Drift(**row) for row in drift))


def repair(
    database_url: str,
    resource_ids: list[str],
    reason: str,
    timeout_seconds: float,
    *,
    secret_arn: str = "",
) -> Iterator[tuple[str, Repair]]:
    """Make each counter what the reservations say, and keep the reason. A repeat finds it clean.

    `timeout_seconds` is for each resource.

    Raises:
        AuditFailed: Postgres was not reached, or refused; what was yielded before is repaired.
    """
    # As options of the connection: a procedure that rolls back cannot have them set before it in
    # its transaction. A pooling proxy refuses options, so this needs Postgres itself.
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
