"""Responses of API Gateway itself. The gateway of `make run` returns the same ones."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from infra.openapi import problems
from infra.openapi.schemas import reference


class GatewayMessage(BaseModel):
    """An error of API Gateway itself."""

    message: str = Field(description="For humans. It may change.")


_MESSAGES: Mapping[str, tuple[str, str]] = {
    "401": ("Unauthorized", "With Authorizer=JWT: the access token is missing or invalid."),
    "403": (
        "Forbidden",
        "The caller is not authorized or, with Authorizer=IAM, not authenticated.",
    ),
    "413": ("ContentTooLarge", "API Gateway: the request is larger than 10 MB."),
    "429": ("TooManyRequests", "API Gateway: too many requests. Retry later."),
    "500": ("InternalServerError", "API Gateway: the function failed without a response."),
    "503": ("ServiceUnavailable", "API Gateway: the function was unreachable, or timed out."),
}
_AUTH_STATUSES = ("401", "403")
_NAMES = {status: name for status, (name, _) in _MESSAGES.items()}

HEADERS: Mapping[str, tuple[str, dict[str, Any], Any]] = {
    "ETag": (
        "The version of the resource's total and of the response, for If-Match and If-None-Match.",
        {"type": "string"},
        '"3-0123456789ab"',
    ),
    "Location": (
        "The path of the created resource.",
        {"type": "string", "format": "uri-reference"},
        "/api/v1/resources/hotel-room-101",
    ),
    "Retry-After": (
        "Seconds until the same request may succeed.",
        {"type": "integer", "minimum": 0},
        1,
    ),
    "Idempotent-Replayed": (
        "Always `true`: this repeats the response to the first request with the Idempotency-Key.",
        {"type": "string", "enum": ["true"]},
        "true",
    ),
    "WWW-Authenticate": (
        "With Authorizer=JWT: why the access token was rejected (RFC 6750).",
        {"type": "string"},
        "Bearer",
    ),
    "Accept-Encoding": (
        "The supported content coding: none.",
        {"type": "string", "enum": ["identity"]},
        "identity",
    ),
    "x-request-id": (
        "The id of the request in the log. Responses of the gateway itself do not have it.",
        {"type": "string"},
        "JKJaXmPLvHcESHA=",
    ),
}
"""Response headers: description, schema and example."""


def headers() -> dict[str, Any]:
    """Components for response headers."""
    return {
        name: {"description": description, "schema": schema, "example": example}
        for name, (description, schema, example) in HEADERS.items()
    }


def header_references(*names: str) -> dict[str, Any]:
    """References to these headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def with_gateway_responses(
    responses: Mapping[str, dict[str, Any]], *, is_open: bool
) -> dict[str, dict[str, Any]]:
    """Merge the responses of an operation with those of the gateway of the same status."""
    merged = {status: dict(response) for status, response in responses.items()}
    for status in _NAMES:
        if status in _AUTH_STATUSES and is_open:
            continue
        if status == "413" and status not in responses:
            continue  # only a body can be too large
        merged[status] = _merged(merged.get(status), _response(status))
    return dict(sorted(merged.items()))


def _merged(own: dict[str, Any] | None, from_gateway: dict[str, Any]) -> dict[str, Any]:
    if own is None:
        return from_gateway
    content = {**own["content"]}
    for media_type, described in from_gateway["content"].items():
        if media_type in content:
            both = [*_alternatives(content[media_type]), *_alternatives(described)]
            content[media_type] = {"schema": {"oneOf": both}}
        else:
            content[media_type] = described
    return {
        "description": f"{own['description']}\n\n{from_gateway['description']}",
        "headers": own["headers"] | from_gateway.get("headers", {}),
        "content": content,
    }


def _alternatives(media: dict[str, Any]) -> list[dict[str, Any]]:
    schema = media["schema"]
    alternatives: list[dict[str, Any]] = schema.get("oneOf", [schema])
    return alternatives


def _response(status: str) -> dict[str, Any]:
    names = ["WWW-Authenticate"] if status in _AUTH_STATUSES else []
    return {
        "description": _MESSAGES[status][1],
        **({"headers": header_references(*names)} if names else {}),
        "content": {"application/json": {"schema": reference(GatewayMessage)}},
    }


def shared(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Replace responses that several operations share by references, and return the components.

    A component is named after its status, a second variant after the tag of its operations, too.
    """
    seen: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {}
    for methods in paths.values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                key = repr((status, response))
                seen.setdefault(key, []).append((operation, status, response))
    shared_responses: dict[str, Any] = {}
    for uses in seen.values():
        operation, status, response = uses[0]
        if len(uses) == 1 or int(status) < 400:  # noqa: PLR2004 - errors only
            continue
        name = _NAMES.get(status) or _name_by_code(response)
        if name in shared_responses:
            name = operation["tags"][0].replace(" ", "") + name
        if not name or name in shared_responses:
            continue
        shared_responses[name] = response
        for user, _, _ in uses:
            user["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(shared_responses.items()))


def _name_by_code(response: Mapping[str, Any]) -> str:
    """The code in Pascal case. Empty if there are several codes."""
    schema = response["content"][problems.PROBLEM_JSON]["schema"]
    return str(schema.get("$ref", "")).rpartition("/")[2].removesuffix("Problem")
