"""Classifies errors of Postgres: cause, effect of the statement, state of the connection.

One table for failovers, read replicas, RDS Proxy, PgBouncer, shutdowns and limits. Pure: no I/O.
"""

from dataclasses import dataclass
from enum import Enum

import psycopg


class Done(Enum):
    """The effect of the failed statement."""

    NOTHING = "nothing"
    """Rejected or rolled back: sending it again is always safe."""
    UNKNOWN = "unknown"
    """Possibly committed: only a repeatable statement may be sent again."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The classification of an error."""

    cause: str
    done: Done = Done.UNKNOWN
    reconnects: bool = True
    """Whether the connection must be replaced: 503 `database_unavailable`, if the new one fails
    too. Otherwise the statement waited too long for other transactions: 503 `contention`."""


MEANINGS = {
    # A failover. A reused connection leads to a server that is read-only now.
    "25006": Meaning("the server is read-only: it was demoted", Done.NOTHING),
    "55000": Meaning("the server is in recovery: it is a standby", Done.NOTHING),
    "0A000": Meaning("a standby or a proxy does not support the statement", Done.NOTHING),
    "40001": Meaning("cancelled in conflict with recovery on a standby", Done.NOTHING),
    # A shutdown, a crash, an administrator. A commit may precede the loss of its answer.
    "57P01": Meaning("the backend was terminated: shutdown or administrator"),
    "57P02": Meaning("another backend crashed, and all are restarted"),
    "57P03": Meaning("the server is starting, shutting down or recovering", Done.NOTHING),
    "57P04": Meaning("the database was dropped"),
    "57P05": Meaning("the session exceeded its idle timeout", Done.NOTHING),
    "25": Meaning("the session is in a transaction of another client", Done.NOTHING),
    "26": Meaning("a pooler lost the statement between two messages", Done.NOTHING),
    # The connection. PgBouncer sends 08P01 for nearly every error, including a lost server.
    "08001": Meaning("the connection could not be established", Done.NOTHING),
    "08004": Meaning("the server or the pooler rejected the connection", Done.NOTHING),
    "08": Meaning("the connection was lost, or a pooler failed"),
    # Limits. A proxy forwards the errors of its backends.
    "53300": Meaning("too many connections", Done.NOTHING),
    "53": Meaning("the server lacks memory, disk or another resource", Done.NOTHING),
    "58": Meaning("a system error on the server"),
    # Authentication. A proxy connects to Postgres for the first statement, after it has accepted
    # the client.
    "28": Meaning("authentication failed: the token expired, or the role is missing", Done.NOTHING),
    "3D000": Meaning("the database does not exist, or the pooler does not know it", Done.NOTHING),
    # Waiting for other transactions. The connection is intact.
    "40P01": Meaning("a deadlock", Done.NOTHING, reconnects=False),
    "55P03": Meaning("a lock timeout", Done.NOTHING, reconnects=False),
    "57014": Meaning("a statement timeout", Done.NOTHING, reconnects=False),
}
"""By SQLSTATE, or by its class: the first two characters. Any other error is a bug: 500.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
LOST = Meaning("the connection was lost, or closed by the server")


def meaning(error: psycopg.Error) -> Meaning | None:
    """The classification of the error; None: a bug, and the connection is intact."""
    sqlstate = error.sqlstate or ""
    listed = MEANINGS.get(sqlstate) or MEANINGS.get(sqlstate[:2])
    if listed is not None:
        return listed
    if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return LOST  # RDS Proxy closes sessions with its own codes and messages
    if isinstance(error, psycopg.OperationalError) and not sqlstate:
        return LOST  # from the driver: the socket is closed, or timed out
    return None
