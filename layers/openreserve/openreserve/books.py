"""The books: whether the counters are what the reservations say, and mending them. For operators.

Opens a connection of its own to a Postgres that it is told of; nothing of this runs on Lambda.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from openreserve.sql import statements

CONNECT_TIMEOUT_SECONDS = 5


class CouldNotCheck(Exception):
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


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a repair: clean, repaired, oversold or unknown_resource."""

    outcome: str
    difference: int
    """By how much available_stock was moved; oversold: how many units there are too few."""
    marks_mended: int


def check(database_url: str, timeout_seconds: float, **overrides: Any) -> Check:
    """Recompute everything from the reservations, in one snapshot, while traffic runs.

    Raises:
        CouldNotCheck: Postgres was not reached, or took too long.
    """
    names = statements("books")
    with _connected(database_url, **overrides) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute(names.allow, {"timeout_ms": int(timeout_seconds * 1_000)})
        drift = connection.execute(names.find_drift).fetchall()
        (counts,) = connection.execute(names.count).fetchall()
    return Check(**counts, drift=tuple(Drift(**row) for row in drift))


def repair(
    database_url: str, resource_ids: list[str], reason: str, timeout_seconds: float
) -> Iterator[tuple[str, Repair]]:
    """Make each counter what the reservations say, and keep the reason. A repeat finds it clean.

    Raises:
        CouldNotCheck: Postgres was not reached, or refused; those told before are mended.
    """
    # As an option of the connection, since a procedure that rolls back cannot have it set before it
    # in its transaction. So this wants Postgres itself, not a pooling proxy.
    longer = f"-c statement_timeout={int(timeout_seconds * 1_000)}"
    with _connected(database_url, options=longer) as connection:
        for resource_id in resource_ids:
            parameters = {"resource_id": resource_id, "reason": reason}
            (row,) = connection.execute(statements("books").repair, parameters).fetchall()
            yield resource_id, Repair(**row)


@contextmanager
def _connected(database_url: str, **overrides: Any) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    try:
        with psycopg.connect(
            database_url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            row_factory=dict_row,
            **overrides,
        ) as connection:
            yield connection
    except psycopg.Error as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CouldNotCheck(reason) from error
