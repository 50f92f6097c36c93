"""The prompt path and the scheduled sweep (reconcile): each expired hold is closed exactly once."""

import json
import os
import time
from collections.abc import Iterator

import psycopg
import pytest

from functions.expire import app as expire_app
from functions.reconcile import app as reconcile_app
from tests.conftest import Engine, ask_redis, beside, forget
from tests.integration.test_settle import past
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import (
    Context,
    available,
    commit,
    hold,
    read_reservation,
    release,
    reserve,
    sample,
    set_stock,
)
from tests.support.postgres_tap import tapped


def stored_status(engine: Engine, token: str) -> str:
    ((status,),) = engine.sql(
        "SELECT status::text FROM openreserve.reservations WHERE token = %s", token
    )
    return str(status)


def reconcile(remaining_ms: int = 60_000) -> dict[str, int]:
    return reconcile_app.handler(sample("reconcile"), Context(remaining_ms))


def set_duration(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPIRE_STAY_SECONDS", str(seconds))
    forget()


def test_an_empty_event_closes_expired_holds_like_a_scheduled_event(
    name: str, engine: Engine
) -> None:
    set_stock(name, 1)
    for event in ({}, sample("reconcile")):
        token = hold((name, 1))
        past(engine, token)
        reconcile_app.handler(event, Context())
        assert stored_status(engine, token) == "EXPIRED"


def test_a_batch_reads_in_proportion_to_its_size(engine: Engine, name: str) -> None:
    """Also with the generic plans that Postgres uses from the sixth batch of a connection on."""
    batch_size, resources = 500, 100
    with psycopg.connect(engine.owner_url, autocommit=True) as connection:
        tokens = [
            token
            for (token,) in connection.execute(
                "WITH stock AS ("
                "  INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
                "  SELECT %(name)s || n, 100, 0 FROM generate_series(1, %(resources)s) n"
                "), held AS ("
                "  INSERT INTO openreserve.reservations (token, created_at, expires_at)"
                "  SELECT gen_random_uuid(), now() - interval '2 min', now() - interval '1 min'"
                "    FROM generate_series(1, 100 * %(resources)s) RETURNING token, expires_at"
                ")"
                "INSERT INTO openreserve.reservation_items"
                "       (token, resource_id, quantity, held_until)"
                " SELECT token, %(name)s || (row_number() OVER () %% %(resources)s + 1), 1,"
                "        expires_at"
                "   FROM held RETURNING token",
                {"name": name, "resources": resources},
            )
        ]
        connection.execute("ANALYZE openreserve.reservations, openreserve.reservation_items")
    with psycopg.connect(engine.direct_url, autocommit=True) as connection:
        for start in range(0, len(tokens), batch_size):
            before = _blocks_read(connection)
            connection.execute(
                "SELECT openreserve.expire(%s, %s)",
                [tokens[start : start + batch_size], batch_size],
            )
            blocks_per_hold = (_blocks_read(connection) - before) / batch_size

    # Measured: 21. It was 70 while the sweep read the deadline index for each token.
    assert blocks_per_hold < 30, "an index is read through for each token"
    assert engine.drift() == []


def _blocks_read(connection: psycopg.Connection[tuple[int]]) -> int:
    """The number of blocks of tables and indexes read so far, from memory or disk."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint"
        "  FROM pg_statio_user_tables WHERE schemaname = 'openreserve'"
    ).fetchone()
    assert row is not None
    return row[0]


def test_reconcile_closes_expired_holds_and_no_others(engine: Engine, name: str) -> None:
    set_stock(name, 10)
    expired = [hold((name, 1)) for _ in range(3)]
    for token in expired:
        past(engine, token)
    live, committed = hold((name, 1)), hold((name, 1))
    commit(committed)

    reconcile()

    assert [stored_status(engine, token) for token in expired] == ["EXPIRED"] * 3
    assert read_reservation(live).json["status"] == "HELD"
    assert read_reservation(committed).json["status"] == "COMMITTED"
    assert available(name) == 8
    assert reconcile()["closed"] == 0
    assert engine.drift() == []


def test_reconcile_works_in_batches_until_no_expired_hold_is_left(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 10)
    for _ in range(7):
        past(engine, hold((name, 1)))
    monkeypatch.setenv("EXPIRE_BATCH_SIZE", "3")
    forget()

    assert reconcile()["closed"] >= 7
    assert available(name) == 10


def test_reconcile_stops_before_its_timeout_and_continues_on_the_next_run(
    engine: Engine, name: str
) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    past(engine, token)

    assert reconcile(remaining_ms=1_000)["closed"] == 0
    assert stored_status(engine, token) == "HELD"
    assert reconcile()["closed"] >= 1


def test_reconcile_skips_holds_that_are_being_settled(engine: Engine, name: str) -> None:
    set_stock(name, 2)
    settling, left = hold((name, 1)), hold((name, 1))
    past(engine, settling)
    past(engine, left)
    with psycopg.connect(engine.owner_url) as other:
        other.execute(
            "SELECT FROM openreserve.reservations WHERE token = %s FOR UPDATE", [settling]
        )
        reconcile()

    assert (stored_status(engine, settling), stored_status(engine, left)) == ("HELD", "EXPIRED")


def test_reconcile_closes_a_hold_that_expired_months_ago(engine: Engine, name: str) -> None:
    """An engine that was off for months still starts: a lag of 25 days and more fits."""
    set_stock(name, 1)
    token = hold((name, 1))
    past(engine, token)
    engine.sql(
        "UPDATE openreserve.reservations SET created_at = created_at - interval '90 days',"
        " expires_at = expires_at - interval '90 days' WHERE token = %s",
        token,
    )

    assert reconcile()["closed"] >= 1
    assert stored_status(engine, token) == "EXPIRED"


def test_holds_reclaimed_for_their_stock_are_counted_once(
    engine: Engine, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.sql("DELETE FROM openreserve.reclaims")
    set_stock(name, 3)
    for _ in range(3):
        past(engine, hold((name, 1)))
    assert reserve((name, 3)).status == 200
    capsys.readouterr()

    reconcile()
    reconcile()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["HoldsExpired"] for line in lines if line.get("path") == "reclaim"] == [[3]]


def test_reconcile_works_without_redis(engine_without_redis: Engine, name: str) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    past(engine_without_redis, token)

    reconcile()

    assert stored_status(engine_without_redis, token) == "EXPIRED"


@pytest.mark.usefixtures("engine")
def test_reconcile_restores_deadlines_that_redis_lost(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 3)
    soon, later = hold((name, 1), ttl_seconds=60), hold((name, 1), ttl_seconds=600)
    ask_redis("FLUSHALL")
    monkeypatch.setattr(reconcile_app, "DEADLINES_AT_A_TIME", 1)

    reconcile()

    assert ask_redis("ZSCORE", "openreserve:{deadlines}", soon) is not None
    assert ask_redis("ZSCORE", "openreserve:{deadlines}", later) is None, "there is time for that"


def test_reconcile_purges_rows_past_their_retention_and_keeps_the_counters(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 9)
    old, young, committed = (reserve((name, 1), key=f"{name}-{n}").json["token"] for n in range(3))
    live = hold((name, 1))
    release(old)
    release(young)
    commit(committed)
    engine.sql(
        "UPDATE openreserve.reservations SET settled_at = settled_at - interval '31 days'"
        " WHERE token = ANY (%s::uuid[])",
        [old, committed],
    )
    engine.sql(
        "UPDATE openreserve.idempotency_keys SET created_at = created_at - interval '49 hours'"
        " WHERE token = ANY (%s::uuid[])",
        [old, committed],
    )
    monkeypatch.setattr(reconcile_app, "PURGED_AT_A_TIME", 1)

    assert reconcile()["purged"] == 3

    assert read_reservation(old).code == "reservation_not_found"
    assert [read_reservation(t).json["status"] for t in (young, committed, live)] == [
        "RELEASED",
        "COMMITTED",
        "HELD",
    ]
    ask_redis("FLUSHALL")
    assert "idempotent-replayed" in reserve((name, 1), key=f"{name}-1").headers
    assert "idempotent-replayed" not in reserve((name, 1), key=f"{name}-0").headers
    assert engine.drift() == []


def test_no_settings_purge_rows_younger_than_the_documented_retention(
    name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_RETENTION_HOURS", "0")
    monkeypatch.setenv("RESERVATION_RETENTION_DAYS", "0")
    monkeypatch.setenv("EVENT_RETENTION_DAYS", "0")
    forget()
    set_stock(name, 1)
    first = reserve((name, 1), key=name)
    release(first.json["token"])
    engine.sql(
        "UPDATE openreserve.idempotency_keys SET created_at = created_at - interval '23 hours'"
        " WHERE idempotency_key = %s",
        name,
    )
    engine.sql(
        "UPDATE openreserve.reservations SET settled_at = settled_at - interval '23 hours'"
        " WHERE token = %s",
        first.json["token"],
    )

    assert reconcile()["purged"] == 0


def test_the_prompt_path_closes_each_hold_at_its_deadline(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_duration(3, monkeypatch)
    set_stock(name, 50)
    tokens = [hold((name, 1), ttl_seconds=1 + n % 2) for n in range(40)]

    closed = expire_app.handler(sample("expire"), None)["closed"]

    assert closed >= 40
    assert {stored_status(engine, token) for token in tokens} == {"EXPIRED"}
    ((worst,),) = engine.sql(
        "SELECT max(extract(epoch FROM settled_at - expires_at)) FROM openreserve.reservations"
        " WHERE token = ANY (%s::uuid[])",
        tokens,
    )
    assert 0 <= worst < 1, "never early, and within the stay"
    assert not any(ask_redis("ZSCORE", "openreserve:{deadlines}", token) for token in tokens)
    assert available(name) == 50
    assert engine.drift() == []


def test_an_earlier_deadline_wakes_the_prompt_path(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt path sleeps until the first deadline. An earlier one must wake it."""
    set_duration(3, monkeypatch)
    ask_redis("FLUSHALL")
    set_stock(name, 2)
    hold((name, 1), ttl_seconds=600)
    sleeping = beside(lambda: expire_app.handler({}, None))
    time.sleep(0.5)

    # Redis passes the wake-up to the sleeping call. The hold comes over another connection.
    token = hold((name, 1), ttl_seconds=1)

    sleeping.join()
    assert stored_status(engine, token) == "EXPIRED"


UNCOUNTED_COMMANDS = {"cmdstat_info", "cmdstat_hello", "cmdstat_client|setinfo"}
"""Commands of this test and of opening connections: a client names its library to Redis 7.2 and
newer, and to Valkey, with two commands. Older servers refuse them and do not count them."""


def test_an_idle_prompt_path_makes_few_redis_calls_and_no_statement(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tapped(engine.database_url) as wire:
        monkeypatch.setenv("DATABASE_URL", wire.url)
        set_duration(2, monkeypatch)
        ask_redis("FLUSHALL")
        before = ask_redis("INFO", "commandstats")

        assert expire_app.handler({}, None) == {"closed": 0, "handedOn": 0}

        after = ask_redis("INFO", "commandstats")
    assert wire.messages == []
    calls = {
        command.removeprefix("cmdstat_"): facts["calls"]
        - before.get(command, {"calls": 0})["calls"]
        for command, facts in after.items()
        if command not in UNCOUNTED_COMMANDS
    }
    nonzero_calls = {command: times for command, times in calls.items() if times}
    assert nonzero_calls == {"zrangebyscore": 1, "zrange": 1, "blpop": 2}


def test_a_duration_of_zero_disables_the_prompt_path(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_duration(0, monkeypatch)
    set_stock(name, 1)
    token = hold((name, 1))
    past(engine, token)

    assert expire_app.handler({}, None) == {"closed": 0, "handedOn": 0}
    assert stored_status(engine, token) == "HELD"


def test_the_prompt_path_survives_a_redis_outage(
    engine_without_redis: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_without_redis
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    set_duration(2, monkeypatch)

    assert expire_app.handler({}, None) == {"closed": 0, "handedOn": 0}


@pytest.fixture(scope="module")
def callers(servers: Engine) -> Iterator[Crowd]:
    with crowd(servers, 8) as callers:
        yield callers


def settle(task: tuple[str, str, float]) -> str:
    verb, token, when = task
    time.sleep(max(0, when - time.time()))
    match verb:
        case "commit":
            return commit(token).code
        case "release":
            return release(token).code
        case "reconcile":
            return str(reconcile()["closed"])
    os.environ["EXPIRE_STAY_SECONDS"] = "2"
    forget()
    return str(expire_app.handler({}, None)["closed"])


def test_both_sweeps_and_the_callers_race_and_each_hold_is_closed_once(
    engine: Engine, name: str, callers: Crowd
) -> None:
    """Two prompt paths, two reconciles, commits and releases race at the deadline of every hold."""
    set_stock(name, 300)
    tokens = [hold((name, 1), ttl_seconds=2) for _ in range(60)]
    ((first,),) = engine.sql(
        "SELECT extract(epoch FROM min(expires_at))::float FROM openreserve.reservations"
        " WHERE token = ANY (%s::uuid[])",
        tokens,
    )

    replies = callers(
        settle,
        [
            [("expire", "", first - 0.5)],
            [("expire", "", first - 0.4)],
            [("reconcile", "", first + n / 50) for n in range(30)],
            [("reconcile", "", first + n / 50) for n in range(30)],
            [("commit", token, first - 0.1) for token in tokens],
            [("commit", token, first) for token in reversed(tokens)],
            [("release", token, first) for token in tokens],
            [("release", token, first + 0.05) for token in reversed(tokens)],
        ],
    )

    final = {token: stored_status(engine, token) for token in tokens}
    commits = dict(zip(tokens, replies[4], strict=True))
    releases = dict(zip(tokens, replies[6], strict=True))
    for token, status in final.items():
        assert status in ("COMMITTED", "RELEASED", "EXPIRED")
        assert (commits[token] == "ok") <= (status == "COMMITTED")
        assert (releases[token] == "already_committed") == (status == "COMMITTED")
    committed = list(final.values()).count("COMMITTED")
    assert available(name) == 300 - committed
    assert engine.drift() == []
