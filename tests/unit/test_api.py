"""How the engine reads HTTP requests. No server is needed."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.domain.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from openreserve.domain.reservations import HoldRequest
from openreserve.http import bodies, handler
from openreserve.http.schemas.reservations import ReserveBody
from tests.support.handlers import sample

BODY = {"resourceId": "hotel-room-101", "quantity": 1, "ttlSeconds": 300}


def request(body: str = json.dumps(BODY), **headers: str) -> handler.Request:
    event = sample("reserve")
    event["body"] = body
    del event["headers"]["idempotency-key"]
    event["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
    return handler._request(event)


def order(body: str = json.dumps(BODY), key: str = "k") -> HoldRequest:
    parsed_request = request(body, idempotency_key=key)
    return handler.hold_request(
        parsed_request, bodies.read(parsed_request.headers, parsed_request.content, ReserveBody)
    )


def test_a_malformed_key_is_refused() -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        order(key="8e03978e,8e03978e")


def test_a_request_without_a_key_is_refused() -> None:
    with pytest.raises(IdempotencyKeyMissing):
        handler.hold_request(request(), ReserveBody.model_validate(BODY, by_alias=True))


def test_the_hash_of_a_request_does_not_change_between_versions() -> None:
    canonical = '{"quantity":1,"resourceId":"hotel-room-101","ttlSeconds":300}'
    expected = sha256(f"POST /api/v1/reserve\n{canonical}".encode()).digest()

    assert order().request_hash == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"resourceId":"a","quantity":1}', '{"resourceId":"a","quantity":1.0}'),
        ('{"resourceId":"é","quantity":1}', '{"resourceId":"e\u0301","quantity":1}'),
        ('{"resourceId":"é","quantity":1}', '{"resourceId":"\\u00e9","quantity":1}'),
    ],
)
def test_another_spelling_of_a_value_is_the_same_request(one: str, other: str) -> None:
    assert order(one) == order(other)


@given(st.permutations(list(BODY.items())), st.sampled_from([None, 2, 7]))
def test_field_order_and_white_space_do_not_change_the_request(
    fields: list[tuple[str, Any]], indent: int | None
) -> None:
    assert order(json.dumps(dict(fields), indent=indent)).request_hash == order().request_hash


@pytest.mark.parametrize(
    "change", [{"quantity": 2}, {"ttlSeconds": 301}, {"resourceId": "hotel-room-102"}]
)
def test_any_other_value_is_another_request(change: dict[str, Any]) -> None:
    assert order(json.dumps(BODY | change)).request_hash != order().request_hash
