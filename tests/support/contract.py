"""Validates every response of a handler against the OpenAPI document."""

import json
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator

from infra import openapi
from openreserve.http.routes import EVERYTHING_ELSE

UNDOCUMENTED = {"content-length", "content-type", "x-request-id"}
SOMETIMES = {"Accept-Encoding", "Idempotent-Replayed", "Retry-After", "WWW-Authenticate"}
"""Documented headers that are optional in the responses of a status."""


def document() -> dict[str, Any]:
    """The OpenAPI document, with JSON types only."""
    with _generating:  # or each thread of a crowd would generate it, which takes a second of CPU
        return _document()


_generating = threading.Lock()


@cache
def _document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(openapi.document()))
    return made


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation by its route key."""
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


@cache
def operation(route: str) -> dict[str, Any]:
    """The operation of a route key."""
    return dict(operations())[route]


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part itself, or the component that its `$ref` names."""
    while "$ref" in part:
        _, *names = part["$ref"].split("/")
        part = document()
        for name in names:
            part = part[name]
    return part


def check(route: str, answer: Mapping[str, Any]) -> None:
    """Check that status, headers and all members of the body are documented.

    Raises:
        AssertionError: they are not.
    """
    if route == EVERYTHING_ELSE.key:
        return
    is_head, route = route.startswith("HEAD "), route.replace("HEAD ", "GET ")
    status = str(answer["statusCode"])
    responses = operation(route)["responses"]
    assert status in responses, f"{route}: {status} is not documented: {answer['body']}"
    response = resolved(responses[status])
    _check_headers(f"{route} {status}", response.get("headers", {}), answer["headers"])
    if not answer["body"]:
        assert is_head or not response.get("content"), f"{route} {status}: the body is missing"
        return
    media_type = answer["headers"]["content-type"]
    errors = [
        f"{error.json_path}: {error.message}"
        for error in validator(route, status, media_type).iter_errors(json.loads(answer["body"]))
    ]
    assert not errors, f"{route} {status}: {errors} in {answer['body']}"


def _check_headers(where: str, documented: Mapping[str, Any], sent: Mapping[str, str]) -> None:
    known = {name.lower() for name in documented}
    always = {name.lower() for name in documented.keys() - SOMETIMES}
    assert sent.keys() <= known | UNDOCUMENTED, f"{where}: {sent.keys() - known} is not documented"
    assert always <= sent.keys(), f"{where}: {always - sent.keys()} is missing"


@cache
def validator(route: str, status: str, media_type: str) -> OAS31Validator:
    """A validator of the response body that refuses undocumented members."""
    response = resolved(operation(route)["responses"][status])
    return strict(response["content"][media_type]["schema"])


def strict(schema: Mapping[str, Any]) -> OAS31Validator:
    """A validator of the schema that refuses undocumented members."""
    whole = {**schema, "components": _closed_components()}
    return OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)


@cache
def _closed_components() -> dict[str, Any]:
    return {
        "schemas": {
            name: _closed(schema) for name, schema in document()["components"]["schemas"].items()
        }
    }


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(part) for key, part in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
