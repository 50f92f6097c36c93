"""The border to Postgres: one connection per thread of a function, one statement per call.

Never sends what would tie a proxy's backend to this client: no SET, no BEGIN, nothing prepared.
"""

import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors as postgres
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from openreserve.domain.errors import (
    Contention,
    DatabaseUnavailable,
    IdempotencyInProgress,
    OpenReserveError,
)
from openreserve.postgres import sqlstates
from openreserve.postgres.sql import statements
from openreserve.postgres.sqlstates import Done
from openreserve.runtime import certificates, iam_auth, snapstart, telemetry
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger

Row = dict[str, Any]

POSTGRES_PORT = 5432
DEFAULTS = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,
}
"""Unless the URL says otherwise. A server that is gone without a word, as after a failover, is
noticed before the function's time is over; by the defaults of most systems it takes hours."""
DEADLOCK_RETRIES_MAX = 3


class _Thread(threading.local):
    """The connection of this thread. Most functions have one thread, hence one connection."""

    connection: psycopg.Connection[Row] | None = None


_of_this_thread = _Thread()


def fetch_all(
    statement: str, parameters: Mapping[str, Any], *, repeatable: bool = True
) -> list[Row]:
    """Run one statement in one round trip, committed when this returns, and return its rows.

    `sqlstates` says what each error means. A kept connection that turns out to be dead, or to lead
    to a server that no longer writes, is replaced and the statement is sent once more: always if
    nothing was done, and only if it is `repeatable` if that is unknown. A new connection that fails
    is not replaced. A deadlock was rolled back, so it is always sent again.

    Raises:
        Contention: a lock or the statement took longer than the role may wait; nothing was done.
        IdempotencyInProgress: the lock was an Idempotency-Key's; nothing was done.
        DatabaseUnavailable: no connection, or it broke; the outcome may be unknown.
        psycopg.Error: the statement is wrong, or the schema is.
    """
    with telemetry.measured("PostgresDuration"):
        return _fetch_all(statement, parameters, repeatable=repeatable)


def rows(file: str, name: str, *, repeatable: bool = True, **parameters: Any) -> list[Row]:
    """Run the statement `name` of `sql/queries/<file>.sql`, as `fetch_all` does."""
    statement: str = getattr(statements(file), name)
    return fetch_all(statement, parameters, repeatable=repeatable)


def row(file: str, name: str, *, repeatable: bool = True, **parameters: Any) -> Row:
    """Run a statement that returns one row, as `rows` does, and return it."""
    (only,) = rows(file, name, repeatable=repeatable, **parameters)
    return only


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
        except psycopg.Error as error:
            failed = sqlstates.meaning(error)
            if failed is None:
                raise
            if not failed.reconnects:
                raise _contention(error) from error
            disconnect()
            kept = connection is open_before
            if not kept or not (repeatable or failed.done is Done.NOTHING):
                _warn("Postgres did not carry a statement out", error, failed.cause)
                raise DatabaseUnavailable from error
            _warn("Replacing the connection to Postgres", error, failed.cause)


def _contention(error: psycopg.Error) -> OpenReserveError:
    """The one lock that is waited for in the order of a key is its index entry."""
    waited_for_key = "openreserve.idempotency_keys" in (error.diag.context or "")
    if isinstance(error, postgres.LockNotAvailable) and waited_for_key:
        return IdempotencyInProgress()
    return Contention()


def _warn(message: str, error: psycopg.Error, cause: str) -> None:
    logger().warning(message, extra={"cause": cause, "sqlstate": error.sqlstate})


def _connect() -> psycopg.Connection[Row]:
    connection = _of_this_thread.connection
    if connection is None or connection.closed:
        try:
            connection = psycopg.connect(
                autocommit=True, prepare_threshold=None, row_factory=dict_row, **_where()
            )
        except (psycopg.OperationalError, iam_auth.CannotSign) as refused:
            logger().warning("Could not connect to Postgres", extra={"reason": repr(refused)})
            raise DatabaseUnavailable from refused
        snapstart.opened(disconnect)
        _of_this_thread.connection = connection
    return connection


def _where() -> dict[str, Any]:
    """The URL in parts, with a new token if that is the way to sign in.

    Whoever has the token can sign in with it: it is told to nobody but the server of that name.
    """
    where: dict[str, Any] = DEFAULTS | conninfo_to_dict(settings().database_url)
    if settings().database_auth == "iam":
        port = int(where.get("port") or POSTGRES_PORT)
        where = {"sslrootcert": str(certificates.AMAZON_ROOTS)} | where
        where["sslmode"] = "verify-full"
        where["password"] = iam_auth.database_token(where["host"], port, where["user"])
    return where
