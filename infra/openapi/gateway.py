"""What API Gateway answers itself, without a function; the gateway of `make run` does likewise."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from infra.openapi import problems
from infra.openapi.schemas import reference


class GatewayMessage(BaseModel):
    """What API Gateway answers itself."""

    message: str = Field(description="For people. It is not stable.")


_MESSAGES: Mapping[str, tuple[str, str]] = {
    "401": ("Unauthorized", "There is no access token, or it is not valid. With Authorizer=JWT."),
    "403": ("Forbidden", "The caller may not do this or, with Authorizer=IAM, is unknown."),
    "413": ("ContentTooLarge", "API Gateway: the request is larger than 10 MB."),
    "429": ("TooManyRequests", "API Gateway: there are too many requests. Try again later."),
    "500": ("InternalServerError", "API Gateway: the function failed without an answer."),
    "503": ("ServiceUnavailable", "API Gateway: the function was not reached, or took too long."),
}
_OF_CALLERS = ("401", "403")
_NAMES = {status: name for status, (name, _) in _MESSAGES.items()}

HEADERS: Mapping[str, tuple[str, dict[str, Any], Any]] = {
    "ETag": (
        "The version of the resource's total and of the answer: for If-Match and If-None-Match.",
        {"type": "string"},
        '"3-0123456789ab"',
    ),
    "Location": (
        "The path of what was made.",
        {"type": "string", "format": "uri-reference"},
        "/api/v1/resources/hotel-room-101",
    ),
    "Retry-After": (
        "After how many seconds the same request may succeed.",
        {"type": "integer", "minimum": 0},
        1,
    ),
    "Idempotent-Replayed": (
        "Only `true`: this is the answer to the first request with the Idempotency-Key.",
        {"type": "string", "enum": ["true"]},
        "true",
    ),
    "WWW-Authenticate": (
        "With Authorizer=JWT: what is wrong with the access token (RFC 6750).",
        {"type": "string"},
        "Bearer",
    ),
    "Accept-Encoding": (
        "The coding that a body may have: none.",
        {"type": "string", "enum": ["identity"]},
        "identity",
    ),
    "x-request-id": (
        "Names the request in the log. Answers of the gateway itself do not have it.",
        {"type": "string"},
        "JKJaXmPLvHcESHA=",
    ),
}
"""Of responses: what it says, its schema, an example."""


def headers() -> dict[str, Any]:
    """Components: the headers of responses."""
    return {
        name: {"description": meaning, "schema": schema, "example": example}
        for name, (meaning, schema, example) in HEADERS.items()
    }


def header_references(*names: str) -> dict[str, Any]:
    """These headers, for a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def with_answers_of_gateway(
    responses: Mapping[str, dict[str, Any]], *, is_open: bool
) -> dict[str, dict[str, Any]]:
    """The responses of an operation, and those of the gateway: alternatives of the same status."""
    whole = {status: dict(response) for status, response in responses.items()}
    for status in _NAMES:
        if status in _OF_CALLERS and is_open:
            continue
        if status == "413" and status not in responses:
            continue  # only a body can be too large
        whole[status] = _merged(whole.get(status), _response(status))
    return dict(sorted(whole.items()))


def _merged(own: dict[str, Any] | None, of_gateway: dict[str, Any]) -> dict[str, Any]:
    if own is None:
        return of_gateway
    content = {**own["content"]}
    for media_type, described in of_gateway["content"].items():
        if media_type in content:
            both = [*_alternatives(content[media_type]), *_alternatives(described)]
            content[media_type] = {"schema": {"oneOf": both}}
        else:
            content[media_type] = described
    return {
        "description": f"{own['description']}\n\n{of_gateway['description']}",
        "headers": own["headers"] | of_gateway.get("headers", {}),
        "content": content,
    }


def _alternatives(media: dict[str, Any]) -> list[dict[str, Any]]:
    schema = media["schema"]
    found: list[dict[str, Any]] = schema.get("oneOf", [schema])
    return found


def _response(status: str) -> dict[str, Any]:
    names = ["WWW-Authenticate"] if status in _OF_CALLERS else []
    return {
        "description": _MESSAGES[status][1],
        **({"headers": header_references(*names)} if names else {}),
        "content": {"application/json": {"schema": reference(GatewayMessage)}},
    }


def shared(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Put each response that several operations have in common into one place, and return those.

    A name is that of the status; a second form of it has the operations' own tag before it.
    """
    seen: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {}
    for methods in paths.values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                key = repr((status, response))
                seen.setdefault(key, []).append((operation, status, response))
    found: dict[str, Any] = {}
    for uses in seen.values():
        operation, status, response = uses[0]
        if len(uses) == 1 or int(status) < 400:  # noqa: PLR2004 - errors only
            continue
        name = _NAMES.get(status) or _name_by_code(response)
        if name in found:
            name = operation["tags"][0].replace(" ", "") + name
        if not name or name in found:
            continue
        found[name] = response
        for user, _, _ in uses:
            user["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(found.items()))


def _name_by_code(response: Mapping[str, Any]) -> str:
    """After its only code; empty, if it has several."""
    schema = response["content"][problems.PROBLEM_JSON]["schema"]
    return str(schema.get("$ref", "")).rpartition("/")[2].removesuffix("Problem")
