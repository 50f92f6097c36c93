"""verify and repair: drift is found in one snapshot, and repaired without changing history."""

import threading
from uuid import UUID

import psycopg
import pytest

from openreserve.postgres import audit
from openreserve.postgres.audit import AuditFailed, Check, Drift
from tests.conftest import Engine
from tests.support.handlers import (
    available,
    commit,
    hold,
    list_events,
    read_resource,
    release,
    set_stock,
)

pytestmark = pytest.mark.usefixtures("engine")


def reader(engine: Engine) -> str:
    return engine.direct_url.replace("openreserve_app", "openreserve_reader")


def checked(engine: Engine) -> Check:
    return audit.check(reader(engine), 60)


def repaired(engine: Engine, *resource_ids: str) -> list[audit.Repair]:
    done = audit.repair(engine.direct_url, list(resource_ids), "a test broke it", 60)
    return [outcome for _, outcome in done]


def sold_and_held(name: str) -> tuple[str, str]:
    """Of 10 units of the resource 2 are committed and 3 held, after an earlier release."""
    set_stock(name, 10)
    release(hold((name, 4)))
    sold = hold((name, 2))
    commit(sold)
    return sold, hold((name, 3))


def test_counters_that_agree_are_clean(engine: Engine, name: str) -> None:
    sold_and_held(name)

    result = checked(engine)

    assert result.drift == ()
    assert result.resources == engine.sql("SELECT count(*) FROM openreserve.resources")[0][0]
    assert result.reservations == engine.sql("SELECT count(*) FROM openreserve.reservations")[0][0]


@pytest.mark.parametrize("difference", [-1, 2])
def test_a_wrong_counter_is_reported_and_repaired_with_a_reason(
    engine: Engine, name: str, difference: int
) -> None:
    sold_and_held(name)
    before = engine.sql("SELECT * FROM openreserve.reservations ORDER BY token")
    engine.sql(
        "UPDATE openreserve.resources SET available_stock = available_stock - %s"
        " WHERE resource_id = %s",
        difference,
        name,
    )

    drift = checked(engine).drift
    done = repaired(engine, name)

    assert drift == (Drift(name, 10, 5 - difference, 3, 2, 0, difference),)
    assert done == [audit.Repair("repaired", difference, 0)]
    assert checked(engine).drift == ()
    assert available(name) == 5
    assert engine.sql(
        "SELECT difference, reason, repaired_by FROM openreserve.repairs WHERE resource_id = %s",
        name,
    ) == [(difference, "a test broke it", "openreserve_app")]
    assert engine.sql("SELECT * FROM openreserve.reservations ORDER BY token") == before
    assert engine.drift() == []


def test_a_repair_without_drift_changes_nothing_and_leaves_no_trace(
    engine: Engine, name: str
) -> None:
    sold_and_held(name)
    before = read_resource(name).text

    assert repaired(engine, name, f"{name}-nothing") == [
        audit.Repair("clean", 0, 0),
        audit.Repair("unknown_resource", 0, 0),
    ]
    assert read_resource(name).text == before
    assert engine.sql("SELECT FROM openreserve.repairs WHERE resource_id = %s", name) == []


def test_items_that_disagree_with_their_reservation_are_reported_and_repaired(
    engine: Engine, name: str
) -> None:
    sold, held = sold_and_held(name)
    engine.sql(
        "UPDATE openreserve.reservation_items SET held_until = CASE token WHEN %s THEN now() END"
        " WHERE token = ANY (%s)",
        UUID(sold),
        [UUID(sold), UUID(held)],
    )

    drift = checked(engine).drift
    done = repaired(engine, name)

    assert [(row.resource_id, row.difference, row.wrong_marks) for row in drift] == [(name, 0, 2)]
    assert done == [audit.Repair("repaired", 0, 2)]
    assert checked(engine).drift == ()
    assert read_resource(name).json["heldStock"] == 3


def test_oversold_stock_is_reported_and_not_repaired(engine: Engine, name: str) -> None:
    sold_and_held(name)
    engine.sql(
        "UPDATE openreserve.resources SET total_stock = 4, available_stock = 1"
        " WHERE resource_id = %s",
        name,
    )

    assert repaired(engine, name) == [audit.Repair("oversold", 1, 0)]
    assert [row.difference for row in checked(engine).drift] == [-2]
    set_stock(name, 6)  # available stock changes with the total
    assert repaired(engine, name) == [audit.Repair("repaired", -2, 0)]
    assert read_resource(name).json["availableStock"] == 1
    assert engine.drift() == []


def test_items_of_an_unknown_resource_are_drift(engine: Engine, name: str) -> None:
    token = sold_and_held(name)[1]
    engine.sql(
        "UPDATE openreserve.reservation_items SET resource_id = %s WHERE token = %s",
        f"{name}-gone",
        UUID(token),
    )
    try:
        drift = {row.resource_id: row.difference for row in checked(engine).drift}
        assert drift == {name: 3, f"{name}-gone": -3}
    finally:
        engine.sql(
            "UPDATE openreserve.reservation_items SET resource_id = %s WHERE token = %s",
            name,
            UUID(token),
        )


def test_a_repair_that_returns_stock_writes_an_event(engine: Engine, name: str) -> None:
    set_stock(name, 1)
    engine.sql("UPDATE openreserve.resources SET available_stock = 0 WHERE resource_id = %s", name)
    repaired(engine, name)

    newest = list_events(newest="true", limit="1").json["events"][0]
    assert (newest["type"], newest["resourceId"], newest["value"]) == ("STOCK_RESTORED", name, 1)


def test_traffic_causes_no_drift_and_a_repair_during_traffic_is_exact(
    engine: Engine, name: str
) -> None:
    """Reserves, releases and commits run during verify and repair."""
    set_stock(name, 10**6)
    stop = threading.Event()
    failures: list[Exception] = []

    def trade() -> None:
        try:
            with psycopg.connect(engine.direct_url, autocommit=True) as connection:
                number = 0
                while not stop.is_set():
                    number += 1
                    key = f"{name}-{threading.get_ident()}-{number}"
                    token = connection.execute(
                        "CALL openreserve.reserve(%s, sha256(%s), gen_random_uuid(), ARRAY[%s],"
                        " ARRAY[2], 60, 3600, 100, NULL, NULL, NULL, NULL, NULL, NULL)",
                        [key, key.encode(), name],
                    ).fetchall()[0][1]
                    verb = "release" if number % 2 else "commit"
                    connection.execute(f"SELECT openreserve.{verb}(%s)".encode(), [token])
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=trade) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):
            assert [row for row in checked(engine).drift if row.resource_id == name] == []
            engine.sql(
                "UPDATE openreserve.resources SET available_stock = available_stock - 7"
                " WHERE resource_id = %s",
                name,
            )
            drift = [row for row in checked(engine).drift if row.resource_id == name]
            assert [row.difference for row in drift] == [7], number
            assert repaired(engine, name) == [audit.Repair("repaired", 7, 0)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert read_resource(name).json["committedStock"] > 0
    assert engine.drift() == []


@pytest.mark.parametrize(
    "url", ["postgresql://openreserve_reader@127.0.0.1:1/openreserve", "not a url"]
)
def test_an_unreachable_postgres_is_not_reported_as_clean(url: str) -> None:
    with pytest.raises(AuditFailed):
        audit.check(url, 1)


def test_a_check_that_times_out_is_not_reported_as_clean(engine: Engine, name: str) -> None:
    set_stock(name, 1)
    with psycopg.connect(engine.owner_url) as other:
        other.execute("LOCK TABLE openreserve.reservations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(AuditFailed, match="statement timeout"):
            audit.check(reader(engine), 0.2)


def test_the_reader_can_verify_and_cannot_repair(engine: Engine, name: str) -> None:
    set_stock(name, 1)

    with pytest.raises(AuditFailed, match=r"permission denied|read-only"):
        list(audit.repair(reader(engine), [name], "no", 60))
