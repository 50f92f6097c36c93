"""Databases of the nine migrations before 0.1.0 are adopted with all rows. Others are refused."""

from collections.abc import Iterator
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from openreserve.postgres.migrations import MigrationChanged, migrate
from openreserve.postgres.sql import routines
from tests.conftest import Engine

NINE_FILES = """\
1e84e083b6fc7c63c86e7164a2f780522115448f876b1326bf3a9f04f1e3a732 0001_stock_and_reservations.sql
de2815af1a5564731e0de86e9c2118fa19767104093b9810f78971f30a6ef6f2 0002_events.sql
f1cea7ef8bf171ebdfbed9ab640defb90a8da675435e95d1557e65f205ea93cd 0003_verbs.sql
b7a8ecaaf94492e208cdb74142e8156748be145d80fb1d1a73e2b48b85b4926a 0004_roles.sql
208df1f416eaf1a5550983e06f013c0083bf9c281e555ab7618a83d3dbae013b 0005_hand_over.sql
044292140f3b61609dfd550c95ce162e8858aed5d8b83f2e0e47c891e33d759c 0006_backoffice.sql
1d35ec8882aacff159cfbb5359f98a8d94f76323cdd57def6f9ae36bcfc1c30c 0007_reclaims.sql
c135b3cc4b557a500336d6e7e87bc49777234302ecd78af1edcc682b1ba1462d 0008_linear_batches.sql
30eadc90cf0f27dc161b62459767b40f8f24a63b1476707afb321b6628d10d13 0009_sign_in_by_token.sql
"""

BACK_TO_THE_NINE_FILES: LiteralString = """
    DROP TABLE openreserve.routines;
    DROP VIEW openreserve.item_marks CASCADE;
    CREATE VIEW openreserve.wrong_marks AS SELECT FROM openreserve.reservations;
    CREATE VIEW openreserve.drift AS SELECT FROM openreserve.wrong_marks;
    DROP ROUTINE openreserve.take_stock, openreserve.lock_hold, openreserve.change_total,
                 openreserve.settle_as_committed, openreserve.first_deadline;
    CREATE FUNCTION openreserve.move_stock(text[], bigint[], uuid[]) RETURNS boolean
        LANGUAGE sql RETURN true;
    CREATE FUNCTION openreserve.unmark_returned() RETURNS trigger
        LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER reservations_unmark_returned
        AFTER UPDATE OF status ON openreserve.reservations
        FOR EACH ROW EXECUTE FUNCTION openreserve.unmark_returned();
    ALTER TABLE openreserve.resources
        DROP CONSTRAINT resources_version_positive,
        DROP CONSTRAINT resources_event_sequence_not_negative;
    ALTER TABLE openreserve.reservations DROP CONSTRAINT reservations_settled_before_the_deadline;
    ALTER TABLE openreserve.events DROP CONSTRAINT events_value_not_negative;
    DELETE FROM openreserve.migrations;
"""

ROWS: LiteralString = """
    INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)
    VALUES ('room', 9, 7);
    INSERT INTO openreserve.reservations (token, created_at, expires_at, settled_at, status)
    VALUES ('00000000-0000-0000-0000-000000000001', now(), now() + interval '1 h', NULL, 'HELD'),
           ('00000000-0000-0000-0000-000000000002', now(), now() + interval '1 h', now() + '1 h',
            'COMMITTED');  -- a microsecond late, which old code could do
    INSERT INTO openreserve.reservation_items (token, resource_id, quantity, held_until)
    SELECT token, 'room', 1, CASE status WHEN 'HELD' THEN expires_at END
      FROM openreserve.reservations;
"""

CATALOGUE: dict[str, LiteralString] = {
    "columns": (
        "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod)"
        "  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relnamespace = 'openreserve'::regnamespace AND attnum > 0 AND relkind IN ('r', 'v')"
    ),
    "constraints": (
        "SELECT conname, replace(pg_get_constraintdef(oid), ' NOT VALID', '')"
        "  FROM pg_constraint WHERE connamespace = 'openreserve'::regnamespace"
    ),
    "indexes": "SELECT indexdef, '' FROM pg_indexes WHERE schemaname = 'openreserve'",
    "triggers": "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    "routines": (
        "SELECT oid::regprocedure::text, prosrc, pg_get_function_sqlbody(oid)"
        "  FROM pg_proc WHERE pronamespace = 'openreserve'::regnamespace"
    ),
    "rights": (
        "SELECT relname, array(SELECT unnest(relacl)::text ORDER BY 1)"
        "  FROM pg_class WHERE relnamespace = 'openreserve'::regnamespace"
    ),
    "applied": "SELECT name, sha256 FROM openreserve.migrations",
}


@pytest.fixture
def urls(servers: Engine) -> Iterator[list[str]]:
    """Two databases with the current schema."""
    names = [f"adopted_{uuid4().hex[:8]}" for _ in range(2)]
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for name in map(sql.Identifier, names):
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER openreserve_owner").format(name))
        urls = [servers.owner_url.replace("@/openreserve", f"@/{name}") for name in names]
        for url in urls:
            migrate(url)
        yield urls
        for name in map(sql.Identifier, names):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def made_by_the_nine_files(url: str, *, applied: int = 9) -> None:
    """Downgrade the schema to the nine migrations, and insert rows."""
    with psycopg.connect(url) as connection:
        connection.execute(BACK_TO_THE_NINE_FILES)
        connection.execute(ROWS)
        for number, line in enumerate(NINE_FILES.splitlines()[:applied], start=1):
            connection.execute(
                "INSERT INTO openreserve.migrations (number, sha256, name) VALUES (%s, %s, %s)",
                [number, *line.split()],
            )


def rows(url: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return sorted(connection.execute(query).fetchall(), key=str)


def test_a_database_of_the_nine_migrations_gets_the_current_schema(urls: list[str]) -> None:
    old, new = urls
    made_by_the_nine_files(old)

    assert migrate(old) == [name for name, _ in routines()]

    assert migrate(old) == []
    for kind, query in CATALOGUE.items():
        assert rows(old, query) == rows(new, query), kind


def test_a_database_of_the_nine_migrations_keeps_its_rows(urls: list[str]) -> None:
    old, _ = urls
    made_by_the_nine_files(old)
    reservations: LiteralString = "SELECT * FROM openreserve.reservations"
    before = rows(old, reservations)

    migrate(old)

    assert rows(old, reservations) == before
    assert rows(old, "SELECT held_stock, committed_stock FROM openreserve.resources_now") == [
        (1, 1)
    ]
    assert rows(old, "SELECT * FROM openreserve.drift") == []


def test_a_database_of_other_migrations_is_refused_and_not_changed(urls: list[str]) -> None:
    old, _ = urls
    made_by_the_nine_files(old, applied=8)
    before = rows(old, CATALOGUE["constraints"])

    with pytest.raises(MigrationChanged, match=r"0001_roles\.sql was .*delete \.openreserve/"):
        migrate(old)

    assert rows(old, CATALOGUE["constraints"]) == before
