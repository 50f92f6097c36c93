"""The SQL routines: applied again when their text changes, and callable by old and new code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from openreserve.postgres.migrations import migrate
from openreserve.postgres.sql import ROUTINES, migrations, routines
from tests.conftest import Engine

SQL = Path("layers/openreserve/openreserve/postgres/sql")
SIGNATURES = Path(__file__).with_name("signatures.txt")
LIST_SIGNATURES: LiteralString = (
    "SELECT format('%s(%s)%s', proname, pg_get_function_arguments(oid),"
    "              ' RETURNS ' || pg_get_function_result(oid))"
    "  FROM pg_proc WHERE pronamespace = 'openreserve'::regnamespace"
)


@pytest.fixture
def migrated_url(servers: Engine) -> Iterator[str]:
    """A database with the current schema."""
    database = f"migrated_{uuid4().hex[:8]}"
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        name = sql.Identifier(database)
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER openreserve_owner").format(name))
        url = servers.owner_url.replace("@/openreserve", f"@/{database}")
        migrate(url)
        yield url
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> "Change":
    return Change(monkeypatch)


class Change:
    """Another version of the routines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def text(self, name: str, text: bytes) -> None:
        files = [(file, text if file == name else present) for file, present in routines()]
        self._monkeypatch.setattr("openreserve.postgres.sql.routines", lambda: files)

    def without(self, name: str) -> None:
        files = [(file, text) for file, text in routines() if file != name]
        self._monkeypatch.setattr("openreserve.postgres.sql.routines", lambda: files)


def test_every_file_of_routines_is_listed_once() -> None:
    assert sorted(ROUTINES) == sorted(file.stem for file in (SQL / "routines").iterdir())


def test_no_signature_changes_while_old_code_may_call_it(engine: Engine) -> None:
    """A changed signature takes a new name, and only a contraction deletes a line.

    See docs/how-to/schema.md.

    CREATE OR REPLACE would keep the old routine beside a changed one.
    """
    present = sorted(signature for (signature,) in engine.sql(LIST_SIGNATURES))

    assert present == SIGNATURES.read_text().splitlines()


def test_a_changed_routine_is_applied_again_and_no_other(migrated_url: str, change: Change) -> None:
    (text,) = [text for name, text in routines() if name == "purge.sql"]
    changed = text.replace(b"greatest(key_hours, 24)", b"greatest(key_hours, 25)")
    change.text("purge.sql", changed)

    assert migrate(migrated_url) == ["purge.sql"]
    assert migrate(migrated_url) == []
    with psycopg.connect(migrated_url) as connection:
        row = connection.execute(
            "SELECT prosrc FROM pg_proc WHERE proname = 'purge'"
            "   AND pronamespace = 'openreserve'::regnamespace"
        ).fetchone()
    assert row is not None
    assert "greatest(key_hours, 25)" in row[0]


def test_a_routine_that_fails_leaves_nothing_applied(
    migrated_url: str, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"CREATE TABLE openreserve.another (number integer)"
    more = [*migrations(), (f"{len(migrations()) + 1:04}_another.sql", table)]
    monkeypatch.setattr("openreserve.postgres.sql.migrations", lambda: more)
    change.text("audit.sql", b"CREATE OR REPLACE FUNCTION openreserve.broken(")

    with pytest.raises(psycopg.errors.SyntaxError):
        migrate(migrated_url)

    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute("SELECT to_regclass('openreserve.another')").fetchall()
    assert rows == [(None,)]


def test_a_routine_unknown_to_this_version_is_kept_and_reported(
    migrated_url: str, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    """Old code may still call it, or a newer version may have created it."""
    change.without("purge.sql")

    assert migrate(migrated_url) == []

    assert caplog.messages[-1:] == ["purge.sql is in the database, but not in this version"]
    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute("SELECT openreserve.purge(48, 30, 30, 1)").fetchall()
    assert len(rows) == 1


def test_a_new_routine_is_granted_to_the_functions_and_not_to_public(
    migrated_url: str, change: Change
) -> None:
    change.text(
        "purge.sql",
        b"CREATE FUNCTION openreserve.another() RETURNS integer LANGUAGE sql RETURN 1",
    )
    migrate(migrated_url)

    with psycopg.connect(migrated_url) as connection:
        rights = connection.execute(
            "SELECT bool_and(has_function_privilege('openreserve_app', oid, 'EXECUTE')),"
            "       bool_or(has_function_privilege('public', oid, 'EXECUTE'))"
            "  FROM pg_proc WHERE pronamespace = 'openreserve'::regnamespace"
        ).fetchone()
    assert rights == (True, False)


def test_each_routine_starts_with_a_comment() -> None:
    for name, text in routines():
        for statement in re.finditer(r"^(.*)\nCREATE ", text.decode(), re.MULTILINE):
            assert statement[1].startswith("--") or "TRIGGER" in text.decode(), name


def test_no_routine_refers_to_its_history() -> None:
    for name, text in (*migrations(), *routines()):
        assert not re.search(rb"As in \d{4}|\b0\d{3}\b, but", text), name


def test_the_deadline_rule_is_in_one_file() -> None:
    """No other SQL compares a deadline with a clock."""
    deadline = r"(?:expires_at|held_until|deadline)"
    moment = r"(?:clock_timestamp\(\)|now\(\)|moment)"
    compared = re.compile(
        rf"{deadline}\s*[<>]=?\s*{moment}(?! \+)|{moment}\s*[<>]=?\s*\S*{deadline}"
    )
    files = [*(SQL / "routines").iterdir(), *(SQL / "queries").iterdir()]

    assert [file.name for file in files if compared.search(file.read_text())] == ["deadline.sql"]


@pytest.mark.parametrize(("after", "passed"), [("-1 us", False), ("0", True), ("1 us", True)])
def test_a_hold_is_expired_from_the_instant_of_its_deadline(
    engine: Engine, after: str, passed: object
) -> None:
    rows = engine.sql(
        "SELECT openreserve.deadline_passed(d, d + %s::interval), openreserve.deadline_passed(NULL)"
        "  FROM (VALUES ('2026-01-01'::timestamptz)) AS deadlines (d)",
        after,
    )

    assert rows == [(passed, None)]


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (
            (
                "SELECT FROM openreserve.reservation_items WHERE resource_id = 'x'"
                "   AND openreserve.deadline_passed(held_until, now())"
            ),
            "Index Cond: ((resource_id = 'x'::text) AND (held_until <= now()))",
        ),
        (
            (
                "SELECT FROM openreserve.reservations"
                " WHERE status = 'HELD' AND openreserve.deadline_passed(expires_at, now())"
            ),
            "Index Cond: (expires_at <= now())",
        ),
        (
            "SELECT * FROM openreserve.first_deadline('x')",
            "using reservation_items_held_by_resource on",
        ),
        (
            "SELECT status FROM openreserve.reservations_now WHERE token = gen_random_uuid()",
            "expires_at <= clock_timestamp()",
        ),
    ],
)
def test_the_deadline_rule_is_inlined_into_the_query(
    engine: Engine, query: LiteralString, condition: str
) -> None:
    """Inlined, it can use an index and costs no call per row."""
    with psycopg.connect(engine.direct_url) as connection:
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN (VERBOSE) {query}"))

    assert condition in plan.replace("reservation_items.", "").replace("reservations.", "")
    assert "Function Scan" not in plan
