"""The migrations: atomic, applied once, serialized. And the privileges of the roles."""

import json
import threading
from collections.abc import Iterator
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from functions.migrate import app as migrate_app
from openreserve.postgres.migrations import MigrationChanged, migrate
from openreserve.postgres.sql import migrations, routines, statements
from tests.conftest import Engine, forget
from tests.support.handlers import EVENTS

FILES = [name for name, _ in (*migrations(), *routines())]


@pytest.fixture
def empty_url(servers: Engine) -> Iterator[str]:
    """An empty database."""
    database = f"empty_{uuid4().hex[:8]}"
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        name = sql.Identifier(database)
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER openreserve_owner").format(name))
        yield servers.owner_url.replace("@/openreserve", f"@/{database}")
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_migrating_twice_applies_nothing_the_second_time(empty_url: str) -> None:
    assert migrate(empty_url) == FILES
    assert migrate(empty_url) == []


def test_eight_concurrent_migrations_apply_everything_once(empty_url: str) -> None:
    applied: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: applied.append(migrate(empty_url))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(applied, key=len) == FILES
    assert sorted(map(len, applied))[:-1] == [0] * 7


def test_a_failed_migration_changes_nothing(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrations(), ("9999_broken.sql", b"CREATE TABLE openreserve.x (); SELECT 1 / 0")]
    monkeypatch.setattr("openreserve.postgres.sql.migrations", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_url)

    monkeypatch.undo()
    assert migrate(empty_url) == FILES


def test_a_migration_without_changes_does_not_wait_for_writers(
    empty_url: str,
) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as writing:
        writing.execute("LOCK TABLE openreserve.reservations IN ROW EXCLUSIVE MODE")
        assert migrate(empty_url) == []


def test_a_migration_waits_at_most_three_seconds_for_a_lock(empty_url: str) -> None:
    """All later writers would queue behind it."""
    migrate(empty_url)
    with psycopg.connect(empty_url) as writing:
        writing.execute("LOCK TABLE openreserve.reservations IN ROW EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(empty_url, reservation_events=True)

    assert migrate(empty_url, reservation_events=True) == []


def test_an_applied_migration_that_was_edited_is_refused(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_url)
    (first, text), *others = migrations()
    monkeypatch.setattr(
        "openreserve.postgres.sql.migrations", lambda: [(first, text + b"\n"), *others]
    )

    with pytest.raises(MigrationChanged, match=f"{first} was applied with a different text"):
        migrate(empty_url)


def test_migrations_are_numbered_without_gaps() -> None:
    assert [int(name[:4]) for name, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_the_migrate_function_returns_the_applied_migrations(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_URL", empty_url)
    forget()
    event = json.loads((EVENTS / "migrate.json").read_text())

    assert migrate_app.handler(event, None)["applied"] == FILES
    assert migrate_app.handler(event, None) == {"applied": []}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM openreserve.resources",
        "DELETE FROM openreserve.reservations",
        "DELETE FROM openreserve.idempotency_keys",
        "TRUNCATE openreserve.reservations CASCADE",
        "UPDATE openreserve.resources SET resource_id = 'x'",
        "UPDATE openreserve.reservations SET token = gen_random_uuid()",
        "UPDATE openreserve.reservation_items SET quantity = 1",
        "UPDATE openreserve.idempotency_keys SET request_hash = ''",
        "CREATE TABLE openreserve.x ()",
        "DROP TABLE openreserve.resources",
        "INSERT INTO openreserve.migrations VALUES (99, 'x', 'x')",
        "INSERT INTO openreserve.routines VALUES ('x', 'x')",
    ],
)
def test_the_functions_have_only_the_privileges_that_the_routines_need(
    engine: Engine, statement: LiteralString
) -> None:
    with (
        psycopg.connect(engine.direct_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_the_reader_role_can_only_read(engine: Engine) -> None:
    url = engine.direct_url.replace("openreserve_app@", "openreserve_reader@")
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM openreserve.resources_now").fetchone()
        for statement in (
            "UPDATE openreserve.resources SET version = 1",
            "SELECT openreserve.release(gen_random_uuid())",
        ):
            with pytest.raises(
                (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
            ):
                connection.execute(statement)


def test_the_timeouts_are_set_on_the_role(engine: Engine) -> None:
    with psycopg.connect(engine.direct_url) as connection:
        role_settings = {
            setting: connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            for setting in ("lock_timeout", "statement_timeout", "enable_seqscan")
        }

    assert role_settings == {
        "lock_timeout": ("1s",),
        "statement_timeout": ("5s",),
        "enable_seqscan": ("off",),
    }


def test_no_index_of_resources_has_a_column_that_reserve_updates(engine: Engine) -> None:
    """So that every update of resources is a HOT update."""
    (indexed,) = engine.sql(
        "SELECT array_agg(DISTINCT a.attname::text) FROM pg_index x"
        "  JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey)"
        " WHERE x.indrelid = 'openreserve.resources'::regclass"
    )
    assert indexed == (["resource_id"],)


@pytest.mark.parametrize(
    "file", ["reservations", "resources", "events", "maintenance", "audit", "migrations"]
)
def test_every_query_works_through_rds_proxy(file: str) -> None:
    assert vars(statements(file))
    for name, statement in vars(statements(file)).items():
        assert len(statement.encode()) < 16_384, name
