"""The border to Postgres: one connection per thread of a function, one statement per call.

Never sends what would tie a proxy's backend to this client: no SET, no BEGIN, nothing prepared.
"""

import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors as postgres
from psycopg.rows import dict_row

from openreserve import stopwatch
from openreserve.errors import Contention, DatabaseUnavailable, KeyInProgress
from openreserve.logs import logger
from openreserve.settings import settings

Row = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 3
DEADLOCK_RETRIES_MAX = 3


class _Thread(threading.local):
    """The connection of this thread. Most functions have one thread, hence one connection."""

    connection: psycopg.Connection[Row] | None = None


_of_this_thread = _Thread()


def fetch_all(
    statement: str, parameters: Mapping[str, Any], *, repeatable: bool = True
) -> list[Row]:
    """Run one statement in one round trip, committed when this returns, and return its rows.

    A connection that turns out to be dead, as after a long freeze, is replaced and the statement
    is sent once more: only if it is `repeatable`, since nobody knows whether the first was carried
    out. A deadlock was rolled back, so it is always sent again.

    Raises:
        Contention: a lock or the statement took longer than the role may wait; nothing was done.
        KeyInProgress: the lock was an Idempotency-Key's; nothing was done.
        DatabaseUnavailable: no connection, or it broke; nobody knows whether it was carried out.
    """
    with stopwatch.measured("PostgresDuration"):
        return _fetch_all(statement, parameters, repeatable=repeatable)


def disconnect() -> None:
    """Close the connection, if there is one. The next statement opens another."""
    if _of_this_thread.connection is not None:
        _of_this_thread.connection.close()
        _of_this_thread.connection = None


def _fetch_all(statement: str, parameters: Mapping[str, Any], *, repeatable: bool) -> list[Row]:
    deadlocks = 0
    while True:
        open_before = _of_this_thread.connection
        connection = _connect()
        try:
            return connection.execute(statement.encode(), parameters).fetchall()
        except postgres.DeadlockDetected as deadlock:
            deadlocks += 1
            if deadlocks > DEADLOCK_RETRIES_MAX:
                raise Contention from deadlock
        except postgres.LockNotAvailable as timeout:
            # The one lock that is waited for in the order of a key is its index entry.
            if "openreserve.idempotency_keys" in (timeout.diag.context or ""):
                raise KeyInProgress from timeout
            raise Contention from timeout
        except postgres.QueryCanceled as timeout:
            raise Contention from timeout
        except psycopg.OperationalError as lost:
            disconnect()
            if connection is not open_before or not repeatable:
                raise DatabaseUnavailable from lost
            logger().info("Postgres connection was lost; replacing it")


def _connect() -> psycopg.Connection[Row]:
    connection = _of_this_thread.connection
    if connection is None or connection.closed:
        try:
            connection = psycopg.connect(
                settings().database_url,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as refused:
            raise DatabaseUnavailable from refused
        _of_this_thread.connection = connection
    return connection
