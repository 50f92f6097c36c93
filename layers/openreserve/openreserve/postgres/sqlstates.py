"""What each error of Postgres means for the connection and for a repeat.

One table for failovers, read replicas, RDS Proxy, PgBouncer, shutdowns and limits. Pure: no I/O.
"""

from dataclasses import dataclass
from enum import Enum

import psycopg


class Done(Enum):
    """What is known of the statement that failed."""

    NOTHING = "nothing"
    """It was refused or rolled back: sending it again is always safe."""
    UNKNOWN = "unknown"
    """It may have been committed: only a repeatable statement may be sent again."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What follows from an error."""

    cause: str
    done: Done = Done.UNKNOWN
    reconnects: bool = True
    """Whether the connection is of no use any more: 503 `database_unavailable`, unless a new one
    helps. Else others were in the way: 503 `contention`."""


MEANINGS = {
    # A failover. A connection that was kept ends at a server that no longer writes.
    "25006": Meaning("the server only reads: it was demoted", Done.NOTHING),
    "55000": Meaning("the server is in recovery: it is a standby", Done.NOTHING),
    "0A000": Meaning("a standby or a proxy does not support the statement", Done.NOTHING),
    "40001": Meaning("cancelled in conflict with recovery on a standby", Done.NOTHING),
    # A shutdown, a crash, an administrator. A commit may have come before its answer was lost.
    "57P01": Meaning("the backend was terminated: shutdown or administrator"),
    "57P02": Meaning("another backend crashed, and all are restarted"),
    "57P03": Meaning("the server starts up, shuts down or recovers", Done.NOTHING),
    "57P04": Meaning("the database was dropped"),
    "57P05": Meaning("the session was idle for too long", Done.NOTHING),
    "25": Meaning("the session is in a transaction, which was not begun here", Done.NOTHING),
    "26": Meaning("a pooler lost the statement between two messages", Done.NOTHING),
    # The connection. PgBouncer sends 08P01 for nearly everything, a lost server included.
    "08001": Meaning("no connection could be made", Done.NOTHING),
    "08004": Meaning("the server or the pooler refused the connection", Done.NOTHING),
    "08": Meaning("the connection broke, or a pooler gave up"),
    # Limits. A proxy passes those of its backends on.
    "53300": Meaning("there are too many connections", Done.NOTHING),
    "53": Meaning("the server lacks memory, disk or another resource", Done.NOTHING),
    "58": Meaning("the operating system of the server failed"),
    # Sign-in. A proxy signs in to Postgres when the statement comes, after it accepted the client.
    "28": Meaning("sign-in was refused: the token is over, or the role is missing", Done.NOTHING),
    "3D000": Meaning("the database does not exist, or the pooler does not know it", Done.NOTHING),
    # Waiting for others. The connection stays.
    "40P01": Meaning("a deadlock", Done.NOTHING, reconnects=False),
    "55P03": Meaning("a lock was not to be had in time", Done.NOTHING, reconnects=False),
    "57014": Meaning("the statement took too long", Done.NOTHING, reconnects=False),
}
"""By SQLSTATE, or by its class: the first two characters. What is missing is a bug: 500.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
LOST = Meaning("the connection was lost without a SQLSTATE, or ended by the server")


def meaning(error: psycopg.Error) -> Meaning | None:
    """What the error means; None: it is unforeseen, and the connection is intact."""
    sqlstate = error.sqlstate or ""
    known = MEANINGS.get(sqlstate) or MEANINGS.get(sqlstate[:2])
    if known is not None:
        return known
    if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return LOST  # RDS Proxy ends sessions with codes and texts of its own
    if isinstance(error, psycopg.OperationalError) and not sqlstate:
        return LOST  # of the driver: the socket is closed, or timed out
    return None
