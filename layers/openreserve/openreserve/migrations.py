"""Brings the schema up to date over a direct connection, never through a proxy: it locks."""

import hashlib

import psycopg

from openreserve import owner, sql
from openreserve.logs import logger


class MigrationChanged(Exception):
    """The schema was not touched: a migration that was applied before has another text now."""


def migrate(
    database_url: str, *, secret_arn: str = "", reservation_events: bool = False
) -> list[str]:
    """Apply what is missing, all of it or nothing, and return the names of what was applied.

    `secret_arn`: the secret that has the password, if the URL does not. `reservation_events`:
    whether from now on each change of a reservation is an event, too. A repeat applies nothing.
    Two at once apply one after the other.

    Raises:
        MigrationChanged: an applied file was edited; write a new one instead.
        psycopg.Error: Postgres refused; nothing was applied.
        owner.SecretUnreadable: there is no password; nothing was applied.
    """
    statements = sql.statements("migrations")
    with owner.connected(database_url, secret_arn) as connection:
        connection.execute(statements.lock)
        connection.execute(statements.create_schema)
        connection.execute(statements.create_table)
        applied = {
            number: sha256 for number, _, sha256 in connection.execute(statements.list_applied)
        }
        names = [
            name
            for name, text in sql.migrations()
            if _apply(connection, name, text, applied.get(int(name[:4])))
        ]
        if reservation_events:
            connection.execute(statements.enable_reservation_events)
        else:
            connection.execute(statements.disable_reservation_events)
        return names


def _apply(
    connection: psycopg.Connection, name: str, text: bytes, applied_sha256: str | None
) -> bool:
    sha256 = hashlib.sha256(text).hexdigest()
    if applied_sha256 == sha256:
        return False
    if applied_sha256 is not None:
        raise MigrationChanged(name)
    connection.execute(text)
    record = {"number": int(name[:4]), "name": name, "sha256": sha256}
    connection.execute(sql.statements("migrations").record, record)
    logger().info("applied %s", name)
    return True
