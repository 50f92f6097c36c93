"""Access to Postgres: one connection per thread, one statement per call.

Sends nothing that pins the backend of a proxy: no SET, no BEGIN, no prepared statement.
"""

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
from openreserve.runtime.per_thread import PerThread
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
"""Connection parameters, unless the URL has them. They detect a silently lost server, as after a
failover, within the timeout of the function; the defaults of most systems take hours."""
DEADLOCK_RETRIES_MAX = 3

_connection: PerThread[psycopg.Connection[Row] | None] = PerThread(lambda: None)
"""Most functions have one thread, hence one connection."""


def fetch_all(
    statement: str, parameters: Mapping[str, Any], *, repeatable: bool = True
) -> list[Row]:
    """Run one statement in one round trip, committed when this returns, and return its rows.

    `sqlstates` classifies the errors. If a reused connection is dead, or its server is read-only,
    the connection is replaced and the statement is sent a second time: always if it had no effect,
    and only if it is `repeatable` if its outcome is unknown. A new connection that fails is not
    replaced. A deadlock was rolled back, so the statement is always sent again.

    Raises:
        Contention: a lock or the statement exceeded the timeout of the role; no effect.
        IdempotencyInProgress: the lock was an Idempotency-Key's; no effect.
        DatabaseUnavailable: no connection, or it broke; the outcome may be unknown.
        psycopg.Error: the statement or the schema is wrong.
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
    connection = _connection.get()
    if connection is not None:
        connection.close()
        _connection.set(None)


def _fetch_all(statement: str, parameters: Mapping[str, Any], *, repeatable: bool) -> list[Row]:
    deadlocks = 0
    while True:
        open_before = _connection.get()
        connection = _connect()
        try:
            return connection.execute(statement.encode(), parameters).fetchall()
        except postgres.DeadlockDetected as deadlock:
            deadlocks += 1
            if deadlocks > DEADLOCK_RETRIES_MAX:
                raise Contention from deadlock
        except psycopg.Error as error:
            meaning = sqlstates.meaning(error)
            if meaning is None:
                raise
            if not meaning.reconnects:
                raise _contention(error) from error
            disconnect()
            is_reused = connection is open_before
            if not is_reused or not (repeatable or meaning.done is Done.NOTHING):
                _warn("A statement failed in Postgres", error, meaning.cause)
                raise DatabaseUnavailable from error
            _warn("Replacing the connection to Postgres", error, meaning.cause)


def _contention(error: psycopg.Error) -> OpenReserveError:
    """A lock timeout while inserting an Idempotency-Key waited for a request with the same key."""
    waited_for_key = "openreserve.idempotency_keys" in (error.diag.context or "")
    if isinstance(error, postgres.LockNotAvailable) and waited_for_key:
        return IdempotencyInProgress()
    return Contention()


def _warn(message: str, error: psycopg.Error, cause: str) -> None:
    logger().warning(message, extra={"cause": cause, "sqlstate": error.sqlstate})


def _connect() -> psycopg.Connection[Row]:
    connection = _connection.get()
    if connection is None or connection.closed:
        try:
            connection = psycopg.connect(
                autocommit=True, prepare_threshold=None, row_factory=dict_row, **_parameters()
            )
        except (psycopg.OperationalError, iam_auth.CannotSign) as error:
            logger().warning("Could not connect to Postgres", extra={"reason": repr(error)})
            raise DatabaseUnavailable from error
        snapstart.opened(disconnect)
        _connection.set(connection)
    return connection


def _parameters() -> dict[str, Any]:
    """The connection parameters: those of the URL, with a new IAM token if DATABASE_AUTH is iam.

    The token is a bearer credential, so the certificate of the server is always verified.
    """
    parameters: dict[str, Any] = DEFAULTS | conninfo_to_dict(settings().database_url)
    if settings().database_auth == "iam":
        host, port = parameters["host"], int(parameters.get("port") or POSTGRES_PORT)
        parameters = {"sslrootcert": str(certificates.AMAZON_ROOTS)} | parameters
        parameters["sslmode"] = "verify-full"
        parameters["password"] = iam_auth.database_token(host, port, parameters["user"])
    return parameters
