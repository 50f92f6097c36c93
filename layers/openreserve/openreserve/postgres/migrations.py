"""Applies migrations and routines over a direct connection, not a proxy: it takes locks."""

import hashlib
from collections.abc import Iterator

import psycopg

from openreserve.postgres import owner, sql
from openreserve.runtime.telemetry import logger

_NINE_FILES = "d10caa6312bd8aad62e3997c0cbf51b5d6bcb69addeb82567f1ba627cbdebd40"
"""The hash of the hashes of the nine early files, which 0001 to 0004 and the routines replace."""
_REPLACEMENT_COUNT = 4


class MigrationChanged(Exception):
    """The text of an applied migration was changed. Nothing was applied."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} was applied with a different text: restore it and write a new migration. If a"
            " version before 0.1.0 created this database, start with a new one (make run: delete"
            " .openreserve/)"
        )


def migrate(
    database_url: str, *, secret_arn: str = "", reservation_events: bool = False
) -> list[str]:
    """Apply all missing migrations and all changed routines, or nothing, and return their names.

    `secret_arn`: the secret with the password, if the URL has none. `reservation_events`: whether
    each change of a reservation writes an event. A repeat applies nothing. Concurrent calls are
    serialized.

    Raises:
        MigrationChanged: an applied file was edited; write a new one instead.
        psycopg.Error: Postgres failed; nothing was applied.
        owner.SecretUnreadable: there is no password; nothing was applied.
    """
    statements = sql.statements("migrations")
    with owner.connected(database_url, secret_arn) as connection:
        connection.execute(statements.lock)
        connection.execute(statements.create_records)
        _adopt_nine_files(connection)
        names = [*_apply_migrations(connection), *_apply_routines(connection)]
        if names:
            connection.execute(statements.grant_rights)
        if reservation_events:
            connection.execute(statements.enable_reservation_events)
        else:
            connection.execute(statements.disable_reservation_events)
        return names


def _apply_migrations(connection: psycopg.Connection) -> Iterator[str]:
    applied = _applied_migrations(connection)
    for name, text in sql.migrations():
        sha256 = applied.get(int(name[:4]))
        if sha256 is None:
            connection.execute(text)
            _record_migration(connection, name, text)
            yield name
        elif sha256 != _sha256(text):
            raise MigrationChanged(name)


def _apply_routines(connection: psycopg.Connection) -> Iterator[str]:
    statements = sql.statements("migrations")
    applied: dict[str, str] = dict(connection.execute(statements.list_routines).fetchall())
    for name, text in sql.routines():
        sha256 = _sha256(text)
        if applied.pop(name, None) != sha256:
            connection.execute(text)
            connection.execute(statements.record_routine, {"name": name, "sha256": sha256})
            logger().info("Applied %s", name)
            yield name
    for name in applied:
        logger().warning("%s is in the database, but not in this version", name)


def _adopt_nine_files(connection: psycopg.Connection) -> None:
    """Convert a database that the nine early files created."""
    hashes = " ".join(_applied_migrations(connection).values())
    if _sha256(hashes.encode()) != _NINE_FILES:
        return
    connection.execute(sql.statements("migrations").adopt_nine_files)
    for name, text in sql.migrations()[:_REPLACEMENT_COUNT]:
        _record_migration(connection, name, text)


def _applied_migrations(connection: psycopg.Connection) -> dict[int, str]:
    return dict(connection.execute(sql.statements("migrations").list_migrations).fetchall())


def _record_migration(connection: psycopg.Connection, name: str, text: bytes) -> None:
    record = {"number": int(name[:4]), "name": name, "sha256": _sha256(text)}
    connection.execute(sql.statements("migrations").record_migration, record)
    logger().info("Applied %s", name)


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
