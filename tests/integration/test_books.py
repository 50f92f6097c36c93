"""The audit compares the counter of each resource with its reservations while traffic runs."""

import json
from collections.abc import Iterator

import pytest

from functions.reconcile import app as reconcile_app
from openreserve.postgres import maintenance
from tests.conftest import Engine, forget
from tests.integration.test_settle import past
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import Context, commit, hold, release, reserve, set_stock


@pytest.fixture(autouse=True)
def _from_the_first_resource(engine: Engine) -> None:
    engine.sql("UPDATE openreserve.audit SET resource_id = ''")


def drifting() -> list[str]:
    """The resources with drift after a whole round."""
    resource_ids: list[str] = []
    while True:
        checked, wrong = maintenance.audit_counters(50)
        resource_ids += [resource["resourceId"] for resource in wrong]
        if checked < 50:
            return resource_ids


def test_counters_agree_after_every_kind_of_transition(engine: Engine, name: str) -> None:
    set_stock(name, 20)
    hold((name, 1))
    commit(hold((name, 2)))
    release(hold((name, 3)))
    for reacquire in (False, True):
        token = hold((name, 4))
        past(engine, token)
        reconcile_app.handler({}, Context())
        commit(token, reacquire=reacquire)

    assert drifting() == []
    assert engine.drift() == []


def test_a_counter_that_was_tampered_with_is_detected_and_reported(
    engine: Engine,
    name: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_stock(name, 9)
    hold((name, 2))
    commit(hold((name, 3)))
    engine.sql("UPDATE openreserve.resources SET available_stock = 5 WHERE resource_id = %s", name)
    try:
        while not (drifting_count := reconcile_app.handler({}, Context())["drifting"]):
            pass
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    finally:
        engine.sql(
            "UPDATE openreserve.resources SET available_stock = 4 WHERE resource_id = %s", name
        )

    assert drifting_count == 1
    assert [line["ResourcesDrifting"] for line in lines if "ResourcesDrifting" in line][-1] == [1]
    (error,) = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert (error["resourceId"], error["totalStock"], error["availableStock"]) == (name, 9, 5)
    assert (error["heldStock"], error["committedStock"]) == (2, 3)


@pytest.mark.parametrize("units_lost", ["returned", "sold"])
def test_lost_and_twice_returned_units_are_detected(
    engine: Engine, name: str, units_lost: str
) -> None:
    set_stock(name, 9)
    token = hold((name, 2))
    (commit if units_lost == "sold" else release)(token)
    tamper = (
        "UPDATE openreserve.reservation_items SET quantity = quantity + 1, returned = false"
        " WHERE token = %s"
    )
    engine.sql(tamper, token)

    assert drifting() == [name]

    engine.sql(
        "UPDATE openreserve.reservation_items SET quantity = quantity - 1, returned = %s"
        " WHERE token = %s",
        units_lost == "returned",
        token,
    )
    assert drifting() == []


def test_a_round_continues_where_the_last_call_stopped(engine: Engine, name: str) -> None:
    for n in range(7):
        set_stock(f"{name}-{n}", 1)
    engine.sql("UPDATE openreserve.audit SET resource_id = %s", name)

    def place() -> str:
        ((resource_id,),) = engine.sql("SELECT resource_id FROM openreserve.audit")
        return str(resource_id)

    maintenance.audit_counters(3)
    assert place() == f"{name}-2"
    maintenance.audit_counters(3)
    assert place() == f"{name}-5"
    engine.sql("UPDATE openreserve.audit SET resource_id = '\U0010ffff'")
    assert maintenance.audit_counters(3) == (0, [])
    assert place() == "", "behind the last one the round begins anew"


@pytest.fixture(scope="module")
def callers(servers: Engine) -> Iterator[Crowd]:
    with crowd(servers, 4) as callers:
        yield callers


def trade(resource_id: str) -> int:
    forget()
    for n in range(150):
        reply = reserve((resource_id, 1))
        if reply.status == 200 and n % 3:
            (commit if n % 3 == 1 else release)(reply.json["token"])
    return 0


def check(_resource_id: str) -> int:
    """The number of drifting resources over 100 audits."""
    forget()
    return sum(len(maintenance.audit_counters(10_000)[1]) for _ in range(100))


def work(task: tuple[str, str]) -> int:
    kind, resource_id = task
    return check(resource_id) if kind == "check" else trade(resource_id)


def test_concurrent_traffic_is_never_reported_as_drift(
    engine: Engine, name: str, callers: Crowd
) -> None:
    set_stock(name, 1_000)

    tasks = [[("check", name)], *([("trade", name)] for _ in range(3))]

    assert callers(work, tasks) == [[0]] * 4
    assert engine.drift() == []
