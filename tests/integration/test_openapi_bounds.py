"""The server enforces exactly the bounds of the OpenAPI document."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Queues, forget
from tests.support import contract
from tests.support.handlers import HANDLERS, Reply, invoke, sample, set_stock

pytestmark = pytest.mark.usefixtures("engine")

SAMPLES = {sample(name)["routeKey"]: name for name in HANDLERS}
REFUSED = {
    "body_invalid",
    "endpoint_not_found",
    "idempotency_key_invalid",
    "idempotency_key_missing",
    "query_invalid",
    "reservation_not_found",
    "too_many_items",
    "ttl_out_of_range",
}
"""The error codes for values that the document does not allow."""
ODD_TEXTS = (
    " ",
    "a ",
    "a,b",
    '"a',
    "a/b",
    "a\0b",
    "a\x1fb",
    "a\x7fb",
    "/",
    "-a",
    "é",
    "a b",
    " a",
    "http://shop.example",
)
"""Each violates one of the patterns of the document."""


@dataclass(frozen=True)
class Case:
    """A value at one position of a request."""

    route: str
    kind: str
    """body, header, path or query"""
    place: tuple[str | int, ...]
    value: Any
    allowed: bool

    def __str__(self) -> str:
        value = "absent" if self.value is Absent else json.dumps(self.value)[:20]
        place = "/".join(map(str, self.place))
        outcome = "is taken" if self.allowed else "is refused"
        return f"{self.route} {self.kind} {place} {value} {outcome}"


class Absent:
    """The value is absent."""


def schema_values(schema: Mapping[str, Any], base: Any) -> Iterator[tuple[Any, bool]]:
    """Values at and beyond each bound of a schema, and whether it allows them."""
    schema = contract.resolved(schema)
    if alternatives := schema.get("anyOf"):
        yield None, True
        yield from schema_values(alternatives[0], base)
        return
    yield base, True
    excluded = schema.get("not", {})
    yield from ((value, False) for value in excluded.get("enum", ()))
    yield from number_values(schema)
    yield from string_values(schema, base)
    if "enum" in schema:
        yield from ((value, True) for value in schema["enum"])
        yield "another", False
    if "maxItems" in schema:
        most = [base[0]] * schema["maxItems"]
        yield from [(most, True), ([*most, base[0]], False), ([], False)]


def number_values(schema: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
    if "minimum" in schema:
        yield from [(schema["minimum"], True), (schema["minimum"] - 1, False)]
    if "maximum" in schema:
        yield from [(schema["maximum"], True), (schema["maximum"] + 1, False)]


def string_values(schema: Mapping[str, Any], base: Any) -> Iterator[tuple[Any, bool]]:
    if "maxLength" in schema:
        longest = base.ljust(schema["maxLength"], "a")
        yield from [(longest, True), (longest + "a", False)]
    if schema.get("minLength", 0) > 0:
        shortest = "a" * schema["minLength"]
        yield from [(shortest, True), (shortest[:-1], False)]
    if "pattern" in schema:
        odd = [text for text in ODD_TEXTS if not re.search(schema["pattern"], text)]
        assert odd, schema
        yield from ((text, False) for text in odd)
    if schema.get("format") in ("uuid", "uri"):
        yield "550e8400", False


def object_values(
    schema: Mapping[str, Any], base: Any
) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    """Positions in a body, values for them, and whether the document allows them."""
    schema = contract.resolved(schema)
    for form in schema.get("oneOf", ()):
        if contract.resolved(form)["properties"].keys() >= base.keys():
            yield from object_values(form, base)
    if "properties" not in schema:
        return
    for name, field in schema["properties"].items():
        if name in schema.get("required", ()):
            yield (name,), Absent, False
        if name not in base:
            continue
        yield (name,), [[]] if field.get("type") != "array" else "x", False
        yield from (
            ((name,), value, allowed) for value, allowed in schema_values(field, base[name])
        )
        if "items" in field and is_object(field["items"]):
            # A wrong row of a batch has its own outcome and does not affect the others.
            for place, value, allowed in object_values(field["items"], base[name][0]):
                yield (name, 0, *place), value, allowed
    yield ("unknown",), 1, False


def is_object(schema: Mapping[str, Any]) -> bool:
    return contract.resolved(schema).get("type") == "object"


def bodies(route: str, operation: Mapping[str, Any]) -> Iterator[Case]:
    media = operation.get("requestBody", {"content": {"application/json": {}}})["content"]
    for example in media["application/json"].get("examples", {}).values():
        schema, base = media["application/json"]["schema"], example["value"]
        for place, value, allowed in object_values(schema, base):
            yield Case(route, "body", place, value, allowed)


def parameters(route: str, operation: Mapping[str, Any]) -> Iterator[Case]:
    for parameter in operation["parameters"]:
        base = parameter.get("example")
        if parameter["required"] and parameter["in"] == "header":
            yield Case(route, "header", (parameter["name"].lower(),), Absent, allowed=False)
        if base is None:
            continue
        for value, allowed in schema_values(parameter["schema"], base):
            # A path with an invalid id is that of an unknown resource.
            if parameter["in"] != "path" or not allowed:
                name = parameter["name"]
                place = (name.lower() if parameter["in"] == "header" else name,)
                yield Case(route, parameter["in"], place, value, allowed)


CASES = [
    case
    for route, operation in contract.operations()
    for case in (*bodies(route, operation), *parameters(route, operation))
]


def placed(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a document with another value at one position."""
    made = deepcopy(value)
    part = made
    for step in place[:-1]:
        part = part[step]
    if new is Absent:
        del part[place[-1]]
    else:
        part[place[-1]] = new
    return made


def base_body(case: Case) -> Any:
    """The example that has the position."""
    media = contract.operation(case.route)["requestBody"]["content"]["application/json"]
    bases = [example["value"] for example in media["examples"].values()]
    return next((base for base in bases if case.place[0] in base), bases[0])


def call(case: Case, resource_id: str) -> Reply:
    assert len(resource_id) == len("hotel-room-101")
    event = sample(SAMPLES[case.route])
    if "idempotency-key" in event["headers"]:
        event["headers"]["idempotency-key"] = str(uuid4())
    if case.kind == "body":
        event["body"] = json.dumps(placed(base_body(case), case.place, case.value))
    else:
        kinds = {"query": "queryStringParameters", "path": "pathParameters", "header": "headers"}
        value = case.value if case.value is Absent else str(case.value)
        kind = kinds[case.kind]
        event[kind] = placed(event[kind], case.place, value)
    if event.get("body"):
        event["body"] = event["body"].replace("hotel-room-101", resource_id)
    return invoke(SAMPLES[case.route], event)


def refused(case: Case, reply: Reply) -> bool:
    if "batch" in case.route and len(case.place) > 1 and reply.status == 200:
        return bool(reply.json["results"][0]["outcome"] == "body_invalid")
    if case.allowed and reply.code in ("reservation_not_found", "endpoint_not_found"):
        return False  # the schema is valid
    if case.kind == "path":
        return reply.status == 404
    return reply.code in REFUSED


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_value_is_accepted_if_and_only_if_the_document_allows_it(
    case: Case, name: str, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queues
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "0")
    forget()
    resource_id = name[:14]
    set_stock(resource_id, 1_000)

    reply = call(case, resource_id)

    assert reply.status < 500
    assert refused(case, reply) != case.allowed, reply.text


def test_there_is_a_case_for_every_bound_of_every_request() -> None:
    routes = {case.route for case in CASES}
    expected = {
        route
        for route, operation in contract.operations()
        if "requestBody" in operation or operation["parameters"]
    }

    assert routes == expected
    assert len(CASES) > 150
