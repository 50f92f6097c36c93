"""The schema: how it gets there, what it refuses by itself, and who may do what."""

import json
import threading
from collections.abc import Iterator
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from functions.migrate import app as migrate_app
from openreserve.migrations import MigrationChanged, migrate
from openreserve.sql import migrations, statements
from tests.calls import EVENTS, hold, set_stock
from tests.conftest import Engine, forget


@pytest.fixture
def empty_url(servers: Engine) -> Iterator[str]:
    """A database with nothing in it."""
    database = f"empty_{uuid4().hex[:8]}"
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        name = sql.Identifier(database)
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER openreserve_owner").format(name))
        yield servers.owner_url.replace("@/openreserve", f"@/{database}")
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_migrating_twice_applies_nothing_the_second_time(empty_url: str) -> None:
    assert migrate(empty_url) == [name for name, _ in migrations()]
    assert migrate(empty_url) == []


def test_migrating_from_eight_places_at_once_applies_everything_once(empty_url: str) -> None:
    applied: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: applied.append(migrate(empty_url))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(applied, key=len) == [name for name, _ in migrations()]
    assert sorted(map(len, applied))[:-1] == [0] * 7


def test_a_migration_that_fails_leaves_nothing_behind(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrations(), ("9999_broken.sql", b"CREATE TABLE openreserve.x (); SELECT 1 / 0")]
    monkeypatch.setattr("openreserve.sql.migrations", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_url)

    monkeypatch.undo()
    assert migrate(empty_url) == [name for name, _ in migrations()]


def test_a_deployment_that_changes_nothing_does_not_wait_for_those_who_write(
    empty_url: str,
) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as writing:
        writing.execute("LOCK TABLE openreserve.reservations IN ROW EXCLUSIVE MODE")
        assert migrate(empty_url) == []


def test_a_migration_gives_up_soon_if_somebody_has_what_it_wants_to_change(empty_url: str) -> None:
    """Or all who write would queue behind it, for as long as that one likes."""
    migrate(empty_url)
    with psycopg.connect(empty_url) as writing:
        writing.execute("LOCK TABLE openreserve.reservations IN ROW EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(empty_url, reservation_events=True)

    assert migrate(empty_url, reservation_events=True) == []


def test_a_migration_that_was_edited_after_it_was_applied_is_refused(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_url)
    (first, text), *others = migrations()
    monkeypatch.setattr("openreserve.sql.migrations", lambda: [(first, text + b"\n"), *others])

    with pytest.raises(MigrationChanged, match=first):
        migrate(empty_url)


def test_migrations_are_numbered_one_by_one() -> None:
    assert [int(name[:4]) for name, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_the_migrate_function_names_what_it_applied(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_URL", empty_url)
    forget()
    event = json.loads((EVENTS / "migrate.json").read_text())

    assert migrate_app.handler(event, None)["applied"] == [name for name, _ in migrations()]
    assert migrate_app.handler(event, None) == {"applied": []}


VIOLATIONS: list[tuple[str, LiteralString]] = [
    (
        "resources_never_oversold",
        "UPDATE openreserve.resources SET available_stock = -1 WHERE resource_id = %(name)s",
    ),
    (
        "resources_never_returned_twice",
        (
            "UPDATE openreserve.resources SET available_stock = total_stock + 1"
            " WHERE resource_id = %(name)s"
        ),
    ),
    (
        "resources_total_in_range",
        "UPDATE openreserve.resources SET total_stock = 10 ^ 13 WHERE resource_id = %(name)s",
    ),
    (
        "resources_id_has_no_slash",
        (
            "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            " VALUES ('a/b', 1, 1)"
        ),
    ),
    (
        "resources_id_length",
        (
            "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
            " VALUES ('', 1, 1)"
        ),
    ),
    (
        "reservations_held_until_settled",
        "UPDATE openreserve.reservations SET status = 'COMMITTED' WHERE token = %(token)s",
    ),
    (
        "reservations_held_until_settled",
        "UPDATE openreserve.reservations SET settled_at = now() WHERE token = %(token)s",
    ),
    (
        "reservations_live_for_a_while",
        "UPDATE openreserve.reservations SET expires_at = created_at WHERE token = %(token)s",
    ),
    (
        "reservations_reacquired_means_committed",
        "UPDATE openreserve.reservations SET reacquired = true WHERE token = %(token)s",
    ),
    (
        "reservation_items_quantity_positive",
        "UPDATE openreserve.reservation_items SET quantity = 0 WHERE token = %(token)s",
    ),
    (
        "reservation_items_of_a_reservation",
        (
            "INSERT INTO openreserve.reservation_items (token, resource_id, quantity)"
            " VALUES (gen_random_uuid(), %(name)s, 1)"
        ),
    ),
    (
        "idempotency_keys_pkey",
        "INSERT INTO openreserve.idempotency_keys TABLE openreserve.idempotency_keys",
    ),
    (
        "idempotency_keys_hash_is_sha256",
        "UPDATE openreserve.idempotency_keys SET request_hash = 'x' WHERE token = %(token)s",
    ),
    (
        "idempotency_keys_length",
        "UPDATE openreserve.idempotency_keys SET idempotency_key = '' WHERE token = %(token)s",
    ),
]


@pytest.mark.parametrize(("constraint", "statement"), VIOLATIONS)
def test_a_named_constraint_says_each_invariant_a_second_time(
    engine: Engine, name: str, constraint: str, statement: LiteralString
) -> None:
    set_stock(name, 5)
    parameters = {"name": name, "token": hold((name, 1))}

    with psycopg.connect(engine.owner_url) as connection:
        with pytest.raises(psycopg.IntegrityError) as violation:
            connection.execute(statement, parameters)
        assert violation.value.diag.constraint_name == constraint
        connection.rollback()


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
    ],
)
def test_the_functions_can_do_nothing_that_no_verb_does(
    engine: Engine, statement: LiteralString
) -> None:
    with (
        psycopg.connect(engine.direct_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_a_reader_reads_and_no_more(engine: Engine) -> None:
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


def test_the_timeouts_stand_on_the_role(engine: Engine) -> None:
    with psycopg.connect(engine.direct_url) as connection:
        found = {
            setting: connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            for setting in ("lock_timeout", "statement_timeout", "enable_seqscan")
        }

    assert found == {
        "lock_timeout": ("1s",),
        "statement_timeout": ("5s",),
        "enable_seqscan": ("off",),
    }


def test_no_index_of_the_hot_row_has_a_column_that_reserve_changes(engine: Engine) -> None:
    """So that every update of it is a HOT one."""
    (indexed,) = engine.sql(
        "SELECT array_agg(DISTINCT a.attname::text) FROM pg_index x"
        "  JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey)"
        " WHERE x.indrelid = 'openreserve.resources'::regclass"
    )
    assert indexed == (["resource_id"],)


@pytest.mark.parametrize("file", ["verbs", "reads", "migrations"])
def test_every_statement_says_why_it_is_as_it_is_and_fits_a_proxy(file: str) -> None:
    for name, statement in vars(statements(file)).items():
        assert len(statement.encode()) < 16_384, name
