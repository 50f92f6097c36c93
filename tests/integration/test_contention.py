"""A request that waits too long for a lock is 503 and changes nothing."""

import psycopg
import pytest

from tests.conftest import Engine, beside
from tests.support.handlers import Reply, available, commit, hold, release, reserve, set_stock


def assert_busy(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["retry-after"] == "1"


def test_a_resource_that_stays_locked_is_503(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    token = hold((name, 1))
    with psycopg.connect(engine.owner_url) as other:
        other.execute("SELECT FROM openreserve.resources WHERE resource_id = %s FOR UPDATE", [name])
        assert_busy(reserve((name, 1), key=name), 503, "contention")
        assert_busy(release(token), 503, "contention")
        assert commit(token).status == 200, "a commit does not need the row of the resource"

    assert available(name) == 4
    retried = reserve((name, 1), key=name)
    assert retried.status == 200
    assert "idempotent-replayed" not in retried.headers, "nothing was kept under the key"
    assert engine.drift() == []


def test_a_reservation_that_stays_locked_is_503(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    token = hold((name, 1))
    with psycopg.connect(engine.owner_url) as other:
        other.execute("SELECT FROM openreserve.reservations WHERE token = %s FOR UPDATE", [token])
        assert_busy(commit(token), 503, "contention")
        assert_busy(release(token), 503, "contention")

    assert commit(token).status == 200


def test_a_key_whose_first_request_is_still_in_progress_is_409(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    with psycopg.connect(engine.owner_url) as other:
        under_way(other, name)
        assert_busy(reserve((name, 1), key=name), 409, "idempotency_in_progress")
        other.rollback()

    assert reserve((name, 1), key=name).status == 200
    assert available(name) == 4


def test_a_retry_waits_for_the_first_request_of_its_key(engine: Engine, name: str) -> None:
    set_stock(name, 5)
    replies: list[Reply] = []
    with psycopg.connect(engine.owner_url) as other:
        under_way(other, name)
        retry = beside(lambda: replies.append(reserve((name, 1), key=name)))
        retry.join(0.3)
        assert retry.is_alive(), "it waits"
        other.rollback()
        retry.join()

    assert replies[0].status == 200
    assert available(name) == 4


def under_way(connection: psycopg.Connection, key: str) -> None:
    """An open transaction that has only inserted the idempotency key."""
    connection.execute(
        "WITH held AS (INSERT INTO openreserve.reservations (token, created_at, expires_at)"
        "              VALUES (gen_random_uuid(), now(), now() + interval '1 min') RETURNING *)"
        "INSERT INTO openreserve.idempotency_keys"
        " (idempotency_key, request_hash, token, created_at, expires_at)"
        " SELECT %s, sha256('another'), token, created_at, expires_at FROM held",
        [key],
    )


def test_a_statement_that_takes_too_long_is_503(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 5)
    monkeypatch.setattr(
        "openreserve.postgres.connection.statements",
        lambda _: type("S", (), {"reserve": "SELECT pg_sleep(30)"}),
    )

    assert_busy(reserve((name, 1), key=name), 503, "contention")

    monkeypatch.undo()
    assert engine.drift() == []
