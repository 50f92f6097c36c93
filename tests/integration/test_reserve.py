"""reserve, through its handler, on a real Postgres."""

import base64
import json
from collections.abc import Callable
from uuid import UUID

import pytest

from tests.conftest import Engine, ask_redis, forget
from tests.support.handlers import (
    Reply,
    available,
    call,
    commit,
    hold,
    invoke,
    read_reservation,
    read_resource,
    release,
    reserve,
    sample,
    set_stock,
)

pytestmark = pytest.mark.usefixtures("engine")


def test_a_hold_sets_units_aside_and_returns_its_token(name: str) -> None:
    set_stock(name, 50)

    reply = reserve((name, 2), ttl_seconds=300)

    assert reply.status == 200
    assert reply.headers["location"] == f"/api/v1/reservations/{reply.json['token']}"
    assert "idempotent-replayed" not in reply.headers
    assert UUID(reply.json["token"]).version == 4
    assert reply.json == {
        "token": reply.json["token"],
        "resourceId": name,
        "quantity": 2,
        "items": [{"resourceId": name, "quantity": 2}],
        "status": "HELD",
        "expiresAt": reply.json["expiresAt"],
    }
    assert read_resource(name).json | {"updatedAt": ""} == {
        "resourceId": name,
        "totalStock": 50,
        "availableStock": 48,
        "heldStock": 2,
        "committedStock": 0,
        "version": 1,
        "updatedAt": "",
    }


def test_several_items_are_held_under_one_token(name: str) -> None:
    room, dinner = f"{name}-room", f"{name}-dinner"
    set_stock(room, 5)
    set_stock(dinner, 5)

    reply = reserve((room, 1), (dinner, 2))

    assert "resourceId" not in reply.json
    assert reply.json["items"] == [
        {"resourceId": dinner, "quantity": 2},
        {"resourceId": room, "quantity": 1},
    ]
    assert (available(room), available(dinner)) == (4, 3)


def test_all_items_are_held_or_none_and_every_short_item_is_named(name: str) -> None:
    enough, short, empty = f"{name}-a", f"{name}-b", f"{name}-c"
    for resource_id, total in ((enough, 5), (short, 1), (empty, 0)):
        set_stock(resource_id, total)

    reply = reserve((empty, 1), (enough, 1), (short, 2))

    assert (reply.status, reply.code) == (409, "out_of_stock")
    assert reply.json["items"] == [
        {"resourceId": short, "requested": 2, "available": 1},
        {"resourceId": empty, "requested": 1, "available": 0},
    ]
    assert [available(r) for r in (enough, short, empty)] == [5, 1, 0]


def test_lines_of_one_resource_are_summed_before_the_stock_is_checked(name: str) -> None:
    set_stock(name, 3)

    refused = reserve((name, 2), (name, 2))
    held = reserve((name, 2), (name, 1))

    assert refused.json["items"] == [{"resourceId": name, "requested": 4, "available": 3}]
    assert held.json["items"] == [{"resourceId": name, "quantity": 3}]
    assert available(name) == 0


def test_an_unknown_resource_is_reported_before_a_shortage(name: str) -> None:
    set_stock(name, 0)

    reply = reserve((name, 1), (f"{name}-x", 1))

    assert (reply.status, reply.code) == (404, "resource_not_found")
    assert reply.json["resourceId"] == f"{name}-x"


@pytest.mark.parametrize("ttl_seconds", [0, -1, 86_401, 2**62])
def test_a_hold_that_is_too_short_or_too_long_is_refused(name: str, ttl_seconds: int) -> None:
    set_stock(name, 1)

    reply = reserve((name, 1), ttl_seconds=ttl_seconds)

    assert (reply.status, reply.code) == (422, "ttl_out_of_range")
    assert reply.json["ttlSecondsMax"] == 86_400
    assert available(name) == 1


def test_the_checks_come_in_the_documented_order(name: str) -> None:
    """Replay or reuse of the key, then existence, then limits, then stock."""
    set_stock(name, 1)
    reserve((name, 1), key=name)

    assert reserve((f"{name}-x", 1), key=name, ttl_seconds=0).code == "idempotency_key_reused"
    assert reserve((f"{name}-x", 1), ttl_seconds=0).code == "resource_not_found"
    assert reserve((name, 1), ttl_seconds=0).code == "ttl_out_of_range"
    assert reserve((name, 1)).code == "out_of_stock"


def test_a_hold_without_ttl_lasts_five_minutes(name: str, engine: Engine) -> None:
    set_stock(name, 1)
    token = hold((name, 1))

    (row,) = engine.sql(
        "SELECT extract(epoch FROM expires_at - created_at)::int"
        "  FROM openreserve.reservations WHERE token = %s",
        token,
    )

    assert row == (300,)


def test_a_repeat_returns_the_first_response_byte_for_byte(name: str) -> None:
    set_stock(name, 5)
    first = reserve((name, 1), key=name)

    from_redis = reserve((name, 1), key=name)
    ask_redis("FLUSHALL")
    from_postgres = reserve((name, 1), key=name)

    for repeat in (from_redis, from_postgres):
        assert repeat.text == first.text
        assert repeat.status == first.status
        assert repeat.headers["idempotent-replayed"] == "true"
        assert repeat.headers["location"] == first.headers["location"]
    assert available(name) == 4


@pytest.mark.parametrize("settle", [commit, release])
def test_a_repeat_returns_the_same_response_after_the_hold_is_settled(
    name: str, settle: Callable[[str], Reply]
) -> None:
    set_stock(name, 5)
    first = reserve((name, 1), key=name)
    settle(first.json["token"])

    for _ in ("from Redis", "from Postgres"):
        assert reserve((name, 1), key=name).text == first.text
        ask_redis("FLUSHALL")


def test_a_key_of_another_request_is_refused(name: str) -> None:
    set_stock(name, 5)
    reserve((name, 1), key=name)

    for _ in ("with Redis", "without what Redis knew"):
        reply = reserve((name, 2), key=name)
        assert (reply.status, reply.code) == (422, "idempotency_key_reused")
        ask_redis("FLUSHALL")
    assert available(name) == 4


def test_a_refusal_is_not_stored_under_its_key_so_a_retry_may_succeed(name: str) -> None:
    set_stock(name, 1)
    token = hold((name, 1))
    refused = reserve((name, 1), key=name)
    release(token)

    retried = reserve((name, 1), key=name)

    assert (refused.status, retried.status) == (409, 200)
    assert "idempotent-replayed" not in retried.headers


def test_a_key_means_the_same_bare_and_quoted(name: str) -> None:
    set_stock(name, 5)

    bare = reserve((name, 1), key=name)
    quoted = reserve((name, 1), key=f'"{name}"')

    assert quoted.text == bare.text


def test_a_body_in_base64_is_read(name: str) -> None:
    set_stock(name, 1)
    event = sample("reserve")
    event["headers"]["idempotency-key"] = name
    event["body"] = base64.b64encode(
        json.dumps({"resourceId": name, "quantity": 1}).encode()
    ).decode()
    event["isBase64Encoded"] = True

    assert invoke("reserve", event).status == 200


def test_a_reservation_can_be_read_by_its_token(name: str) -> None:
    set_stock(name, 1)
    reply = reserve((name, 1))

    assert read_reservation(reply.json["token"]).text == reply.text
    for unknown in ("550e8400-e29b-41d4-a716-446655440000", "not-a-token", ""):
        missing = read_reservation(unknown)
        assert (missing.status, missing.code) == (404, "reservation_not_found")


def test_limits_can_be_set_per_stage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, value in (("ITEMS_MAX", "2"), ("QUANTITY_MAX", "7"), ("TTL_SECONDS_MAX", "60")):
        monkeypatch.setenv(setting, value)
    forget()
    set_stock(name, 100)

    assert reserve((name, 8)).json["errors"][0]["message"] == "must be at most 7"
    assert reserve((name, 1), ttl_seconds=61).json["ttlSecondsMax"] == 60
    assert reserve(*[(name, 1)] * 3).code == "too_many_items"
    assert (
        call(
            "reserve",
            {"items": [{"resourceId": name, "quantity": 7}]},
            headers={"idempotency-key": name},
        ).status
        == 200
    )
