"""Parameters and bodies of requests."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from infra.openapi import schemas
from infra.openapi.examples import Examples
from openreserve.domain import errors
from openreserve.http.handler import Operation
from openreserve.http.idempotency import KEY_LENGTH_MAX
from openreserve.http.schemas.fields import ResourceId
from openreserve.http.schemas.webhooks import EndpointId

_ENTITY_TAGS = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
"""RFC 9110, 8.8.3 and 13.1: `*`, or a list of entity tags."""
_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Idempotency-Key": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_LENGTH_MAX,
        # Unquoted without a comma, or a quoted string (RFC 8941).
        "pattern": r'^ *([^\x00-\x20\x7f",][^\x00-\x1f\x7f,]*|'
        r'"([^"\\\x00-\x1f\x7f]|\\["\\])+" *)$',
    },
    "If-Match": {"type": "string", "pattern": _ENTITY_TAGS},
    "If-None-Match": {"type": "string", "pattern": _ENTITY_TAGS},
}


class _PathParameters(BaseModel):
    """Path parameters."""

    model_config = ConfigDict(alias_generator=to_camel)

    resource_id: ResourceId
    token: UUID
    endpoint_id: EndpointId


def parameters(operation: Operation, path: str, examples: Examples) -> list[dict[str, Any]]:
    """All parameters of an operation at a path."""
    result = [*_path_parameters(path), *_headers(operation), *_query(operation)]
    for parameter in result:
        name = parameter["name"]
        if (example := examples.parameters.get(name.lower())) is not None:
            parameter["example"] = _typed(example, parameter["schema"])
    return result


def body(model: type[BaseModel], examples: Examples) -> dict[str, Any]:
    """The body of a request."""
    media: dict[str, Any] = {"schema": schemas.reference(model)}
    if examples.requests:
        media["examples"] = examples.requests
    return {"required": True, "content": {"application/json": media}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    known = schemas.fields_of(_PathParameters)
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            yield {"name": name, "in": "path", "required": True, **_schema(known[name])}


def _headers(operation: Operation) -> Iterator[dict[str, Any]]:
    for name, description in operation.headers.items():
        yield {
            "name": name,
            "in": "header",
            "required": errors.IdempotencyKeyMissing in operation.refusals
            and name == "Idempotency-Key",
            "description": description,
            "schema": dict(_HEADERS[name]),
        }


def _query(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.query is not None:
        for name, described in schemas.fields_of(operation.query).items():
            yield {"name": name, "in": "query", "required": False, **_schema(described)}


def _schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """The description goes to the parameter, the rest to its schema."""
    schema = dict(described)
    description = schema.pop("description", None)
    return ({"description": description} if description else {}) | {"schema": schema}


def _typed(example: str, schema: Mapping[str, Any]) -> Any:
    return int(example) if schema.get("type") == "integer" else example
