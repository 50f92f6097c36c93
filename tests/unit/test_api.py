"""What the engine reads out of an HTTP request. No server is needed for that."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve import api
from openreserve.errors import ConditionInvalid, KeyInvalid, KeyMissing
from openreserve.holds import Order
from openreserve.views import ReserveBody
from tests.calls import sample

BODY = {"resourceId": "hotel-room-101", "quantity": 1, "ttlSeconds": 300}


def request(body: str = json.dumps(BODY), **headers: str) -> api.Request:
    event = sample("reserve")
    event["body"] = body
    del event["headers"]["idempotency-key"]
    event["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
    return api._request(event)


def order(body: str = json.dumps(BODY), key: str = "k") -> Order:
    return api.order(request(body, idempotency_key=key), ReserveBody.model_validate_json(body))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e", "8e03978e"),
        ('"8e03978e"', "8e03978e"),
        ('  "8e03978e" ', "8e03978e"),
        (r'"a \"quoted\" \\ key"', r'a "quoted" \ key'),
        ('"', '"'),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_is_the_same_bare_and_quoted(header: str, key: str) -> None:
    assert order(key=header).key == key


@pytest.mark.parametrize("header", ["", '""', "x" * 256, "a\nb", "a\0b", " "])
def test_a_key_that_is_empty_too_long_or_not_printable_is_refused(header: str) -> None:
    with pytest.raises(KeyInvalid):
        order(key=header)


def test_a_request_without_a_key_is_refused() -> None:
    with pytest.raises(KeyMissing):
        api.order(request(), ReserveBody.model_validate(BODY, by_alias=True))


@given(st.permutations(list(BODY.items())), st.sampled_from([None, 2, 7]))
def test_neither_the_order_of_fields_nor_white_space_makes_another_request(
    fields: list[tuple[str, Any]], indent: int | None
) -> None:
    assert order(json.dumps(dict(fields), indent=indent)).request_hash == order().request_hash


@pytest.mark.parametrize(
    "change", [{"quantity": 2}, {"ttlSeconds": 301}, {"resourceId": "hotel-room-102"}]
)
def test_any_other_value_makes_another_request(change: dict[str, Any]) -> None:
    assert order(json.dumps(BODY | change)).request_hash != order().request_hash


@pytest.mark.parametrize("header", ['"3"', "3", '"3-0123456789ab"', ' "3" '])
def test_if_match_asks_for_the_version_that_an_etag_starts_with(header: str) -> None:
    assert api.expected_version(request(if_match=header)) == 3


def test_without_if_match_any_version_will_do() -> None:
    assert api.expected_version(request()) is None


@pytest.mark.parametrize("header", ["*", 'W/"3"', '"three"', "", '"3-xyz"', '"3", "4"', "٣"])
def test_an_etag_that_was_never_given_out_is_refused(header: str) -> None:
    with pytest.raises(ConditionInvalid):
        api.expected_version(request(if_match=header))


def test_an_etag_begins_with_the_version_and_changes_with_the_view() -> None:
    one, other = (api.entity_tag(3, f'{{"availableStock":{left}}}') for left in (1, 2))

    assert one != other
    assert one.startswith('"3-')
    assert api.unchanged(request(if_none_match=f'"x", W/{one}'), one)
    assert api.unchanged(request(if_none_match="*"), one)
    assert not api.unchanged(request(if_none_match=other), one)
    assert not api.unchanged(request(), one)
