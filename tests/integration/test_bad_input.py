"""Invalid input gets a clear error and changes nothing."""

import base64
import json
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support.handlers import call, invoke, sample, set_stock

pytestmark = pytest.mark.usefixtures("engine")

STATE = """
    SELECT (SELECT count(*) FROM openreserve.idempotency_keys),
           (SELECT count(*) FROM openreserve.reservations),
           (SELECT sum(available_stock) FROM openreserve.resources)"""


TOKEN = "550e8400-e29b-41d4-a716-446655440000"


def one(**fields: Any) -> dict[str, Any]:
    return {"resourceId": "bad-input", "quantity": 1} | fields


BAD_BODIES: dict[str, tuple[Any, int, str]] = {
    "no body": ("", 400, "body_missing"),
    "white space": ("  \n", 400, "body_missing"),
    "broken JSON": ('{"resourceId": "bad-input",', 400, "body_malformed"),
    "two documents": ("{} {}", 400, "body_malformed"),
    "a list": ("[]", 400, "body_invalid"),
    "null": ("null", 400, "body_invalid"),
    "nothing in it": ({}, 400, "body_invalid"),
    "no quantity": ({"resourceId": "bad-input"}, 400, "body_invalid"),
    "no resource": ({"quantity": 1}, 400, "body_invalid"),
    "both forms": (one(items=[one()]), 400, "body_invalid"),
    "no items": ({"items": []}, 400, "body_invalid"),
    "a text as quantity": (one(quantity="1"), 400, "body_invalid"),
    "a boolean as quantity": (one(quantity=True), 400, "body_invalid"),
    "a fraction": (one(quantity=1.5), 400, "body_invalid"),
    "a number that is none": (
        '{"resourceId": "bad-input", "quantity": NaN}',
        400,
        "body_malformed",
    ),
    "no bound at all": ('{"resourceId": "bad-input", "quantity": Infinity}', 400, "body_malformed"),
    "a quantity twice": (
        '{"resourceId": "bad-input", "quantity": 1, "quantity": 5}',
        400,
        "body_malformed",
    ),
    "a quantity of an item twice": (
        '{"items": [{"resourceId": "bad-input", "quantity": 1, "\\u0071uantity": 5}]}',
        400,
        "body_malformed",
    ),
    "nested without an end": ('{"items": ' + "[" * 100_000, 400, "body_malformed"),
    "nested too deeply": ('{"items": ' + "[" * 99_999 + "]" * 99_999 + "}", 400, "body_malformed"),
    "more digits than Python reads": (
        '{"resourceId": "bad-input", "quantity": ' + "1" * 5_000 + "}",
        400,
        "body_malformed",
    ),
    "zero": (one(quantity=0), 400, "body_invalid"),
    "less than zero": (one(quantity=-1), 400, "body_invalid"),
    "too large": (one(quantity=1_000_001), 400, "body_invalid"),
    "larger than any integer": (one(quantity=10**40), 400, "body_invalid"),
    "a boolean as ttl": (one(ttlSeconds=True), 400, "body_invalid"),
    "a fraction as ttl": (one(ttlSeconds=0.5), 400, "body_invalid"),
    "a ttl larger than any integer": (one(ttlSeconds=10**40), 400, "body_invalid"),
    "no time at all": (one(ttlSeconds=0), 422, "ttl_out_of_range"),
    "more than a day": (one(ttlSeconds=86_401), 422, "ttl_out_of_range"),
    "an unknown field": (one(colour="red"), 400, "body_invalid"),
    "our own name of a field": ({"resource_id": "bad-input", "quantity": 1}, 400, "body_invalid"),
    "an unknown field of an item": ({"items": [one(colour="red")]}, 400, "body_invalid"),
    "an unknown resource": (one(resourceId="nobody-has-this"), 404, "resource_not_found"),
    "an empty name": (one(resourceId=""), 400, "body_invalid"),
    "a name of 201": (one(resourceId="a" * 201), 400, "body_invalid"),
    "a slash in a name": (one(resourceId="a/b"), 400, "body_invalid"),
    "NUL in a name": (one(resourceId="a\0b"), 400, "body_invalid"),
    "a name that begins with a space": (one(resourceId=" row7"), 400, "body_invalid"),
    "a name that ends with a space": (one(resourceId="row7 "), 400, "body_invalid"),
    "a name that is a dot": (one(resourceId="."), 400, "body_invalid"),
    "a name that is two dots": (one(resourceId=".."), 400, "body_invalid"),
    "a name that turns the direction of text": (one(resourceId="a\u202eb"), 400, "body_invalid"),
    "a name with a joiner of nothing": (one(resourceId="bad\u200d-input"), 400, "body_invalid"),
    "half a surrogate pair": ('{"resourceId": "\\ud800", "quantity": 1}', 400, "body_malformed"),
    "too many items": (
        {"items": [{"resourceId": f"bad-{n}", "quantity": 1} for n in range(51)]},
        400,
        "too_many_items",
    ),
    "a body of 2 MB": (one(note="x" * 2_000_000), 413, "body_too_large"),
}


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_reservation_is_refused_and_changes_nothing(
    engine: Engine, name: str, body: Any, status: int, code: str
) -> None:
    set_stock("bad-input", 5)
    before = engine.sql(STATE)

    reply = call("reserve", body, headers={"idempotency-key": name})

    assert (reply.status, reply.code) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["type"] == f"urn:openreserve:problem:{code}"
    assert {"title", "detail", "instance", "requestId"} <= set(reply.json)
    assert reply.json["status"] == status
    assert engine.sql(STATE) == before


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_invalid"),
        ('""', "idempotency_key_invalid"),
        ("x" * 300, "idempotency_key_invalid"),
        ("a\0b", "idempotency_key_invalid"),
        ("twice,twice", "idempotency_key_invalid"),
        ('"twice", "twice"', "idempotency_key_invalid"),
    ],
)
def test_a_reservation_without_a_good_key_is_refused(
    engine: Engine, header: str | None, code: str
) -> None:
    set_stock("bad-input", 5)
    before = engine.sql(STATE)
    event = sample("reserve")
    event["body"] = json.dumps(one())
    del event["headers"]["idempotency-key"]
    if header is not None:
        event["headers"]["Idempotency-Key"] = header

    reply = invoke("reserve", event)

    assert (reply.status, reply.code) == (400, code)
    assert engine.sql(STATE) == before


@pytest.mark.parametrize("verb", ["commit", "release"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "body_invalid"),
        ({"token": None}, 400, "body_invalid"),
        ({"token": 7}, 400, "body_invalid"),
        ({"token": "550e8400"}, 400, "body_invalid"),
        ({"token": "550e8400-e29b-41d4-a716-446655440000", "x": 1}, 400, "body_invalid"),
        ({"token": "550e8400-e29b-41d4-a716-446655440000"}, 404, "reservation_not_found"),
    ],
)
def test_a_bad_token_is_refused(verb: str, body: Any, status: int, code: str) -> None:
    reply = call(verb, body)

    assert (reply.status, reply.code) == (status, code)


def test_commit_accepts_only_the_documented_values_of_on_expired() -> None:
    body = {"token": "550e8400-e29b-41d4-a716-446655440000", "ifExpired": "hope"}

    assert call("commit", body).json["errors"][0]["pointer"] == "/ifExpired"


@pytest.mark.parametrize(
    "body",
    [
        {"resourceId": "bad-input"},
        {"resourceId": "bad-input", "totalStock": -1},
        {"resourceId": "bad-input", "totalStock": 1.5},
        {"resourceId": "bad-input", "totalStock": True},
        {"resourceId": "bad-input", "totalStock": 10**12 + 1},
        {"resourceId": "a/b", "totalStock": 1},
        {"resourceId": "bad-input", "totalStock": 1, "availableStock": 1},
    ],
)
def test_bad_stock_is_refused_and_changes_nothing(engine: Engine, body: Any) -> None:
    set_stock("bad-input", 5)
    before = engine.sql(STATE)

    assert call("set-stock", body).code == "body_invalid"
    assert engine.sql(STATE) == before


@pytest.mark.parametrize("content", [b'{"resourceId": "\xff\xfe", "quantity": 1}', b"\xff"])
def test_a_body_that_is_not_utf_8_is_refused(content: bytes) -> None:
    event = sample("reserve")
    event["body"] = base64.b64encode(content).decode()
    event["isBase64Encoded"] = True

    assert invoke("reserve", event).code == "body_malformed"


def test_a_body_that_is_declared_but_not_valid_base64_is_refused() -> None:
    event = sample("reserve")
    event["body"], event["isBase64Encoded"] = "a", True

    assert invoke("reserve", event).code == "body_malformed"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_content_type_is_415(content_type: str) -> None:
    reply = call("reserve", one(), headers={"content-type": content_type})

    assert (reply.status, reply.code) == (415, "content_type_unsupported")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_accepted_in_any_spelling_of_its_content_type(content_type: str, name: str) -> None:
    set_stock("bad-input", 5)
    headers = {"content-type": content_type, "idempotency-key": name}

    assert call("reserve", one(resourceId=name), headers=headers).code == "resource_not_found"


def test_an_error_never_repeats_the_input(name: str) -> None:
    reply = call("reserve", one(quantity="secret"), headers={"idempotency-key": name})

    assert "secret" not in reply.text
    assert reply.json["errors"] == [
        {"pointer": "/quantity", "message": "Input should be a valid integer"}
    ]


def test_a_body_that_is_not_an_object_is_refused_in_json_terms(name: str) -> None:
    bodies: list[tuple[Any, str]] = [([], ""), ({"items": [[1]]}, "/items/0")]
    for body, pointer in bodies:
        reply = call("reserve", body, headers={"idempotency-key": name})
        assert reply.json["errors"] == [
            {"pointer": pointer, "message": "Input should be an object"}
        ]
    row = call("set-stock-of-many", {"resources": [[1]]}).json["results"][0]
    assert row["errors"] == [{"pointer": "", "message": "Input should be an object"}]
    wrong = call("reserve", {"items": 1}, headers={"idempotency-key": name})
    assert wrong.json["errors"][0]["message"] == "Input should be a valid array"
    assert "Python" not in call("commit", {"token": 7}).text
    assert "bytes" not in call("commit", {"token": 7}).text


def test_an_unhandled_exception_is_a_500_with_its_request_id_and_a_log_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"inner workings of {TOKEN}")

    monkeypatch.setattr("openreserve.postgres.reservations.reserve", fail)

    reply = call("reserve", one(), headers={"idempotency-key": name})

    assert (reply.status, reply.code) == (500, "internal_error")
    assert reply.json["requestId"] == "JKJaXmPLvHcESHA="
    assert "inner workings" not in reply.text
    (logged,) = caplog.records
    assert "ZeroDivisionError: inner workings of 550e8400…" in logged.__dict__["trace"]
    assert TOKEN not in str(logged.__dict__), "tokens are secrets"
    assert logged.__dict__["requestId"] == "JKJaXmPLvHcESHA="
    last_line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last_line["outcome"] == "internal_error", "what the alarm in template.yaml counts"


def test_every_request_writes_one_line_with_its_log_and_metrics(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    set_stock(name, 1)
    capsys.readouterr()
    reply = call("reserve", one(resourceId=name), headers={"idempotency-key": name})

    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert line["route"] == "POST /api/v1/reserve"
    assert (line["status"], line["outcome"]) == (200, "held")
    assert line["requestId"] == "JKJaXmPLvHcESHA="
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert {metric["Name"] for metric in described["Metrics"]} == {
        "Requests",
        "Duration",
        "PostgresDuration",
        "RedisDuration",
    }
    assert set(described["Dimensions"][0]) == {"route", "outcome", "service"}
    assert reply.json["token"] not in json.dumps(line)
