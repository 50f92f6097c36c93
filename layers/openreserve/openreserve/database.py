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

from openreserve import certificates, snapshots, stopwatch, tokens
from openreserve.errors import Contention, DatabaseUnavailable, KeyInProgress
from openreserve.logs import logger
from openreserve.settings import settings

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
                autocommit=True, prepare_threshold=None, row_factory=dict_row, **_where()
            )
        except (psycopg.OperationalError, tokens.CannotSign) as refused:
            logger().warning("Postgres did not let us in", extra={"reason": repr(refused)})
            raise DatabaseUnavailable from refused
        snapshots.opened(disconnect)
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
        where["password"] = tokens.database_token(where["host"], port, where["user"])
    return where
