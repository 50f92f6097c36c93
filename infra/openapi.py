"""The OpenAPI document, made from the handlers' declarations and models: `make openapi`."""

import json
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import openreserve
from functions.backoffice import app as backoffice
from functions.commit import app as commit
from functions.endpoints import app as endpoints
from functions.release import app as release
from functions.reserve import app as reserve
from functions.stock import app as stock
from infra.local import access
from openreserve import errors
from openreserve.api import Operation
from openreserve.errors import NotDone
from openreserve.problems import STATUSES, UNFORESEEN
from openreserve.routes import EVERYTHING_ELSE
from openreserve.views import Problem

OF_WEBHOOKS: tuple[Operation, ...] = (
    endpoints.save_endpoint,
    endpoints.list_endpoints,
    endpoints.remove_endpoint,
    endpoints.rotate_secret,
    endpoints.ping_endpoint,
    endpoints.list_dead_letters,
    endpoints.resend_dead_letters,
)
OPERATIONS: tuple[Operation, ...] = (
    reserve.reserve,
    commit.commit,
    release.release,
    stock.set_stock,
    stock.read_resource,
    stock.list_resources,
    stock.read_reservation,
    stock.list_events,
    *OF_WEBHOOKS,
    stock.health,
    backoffice.set_stock_of_many,
    backoffice.adjust_stock,
    backoffice.list_reservations,
)

OF_ANY_BODY = (
    errors.BodyMissing,
    errors.BodyMalformed,
    errors.BodyInvalid,
    errors.BodyTooLarge,
    errors.ContentTypeUnsupported,
    errors.ContentEncodingUnsupported,
)
OF_COMPONENTS = "#/components/schemas/{model}"
FAULTS = (errors.Contention, errors.DatabaseUnavailable)
FAULTS_OF_WEBHOOKS = (errors.ServiceUnavailable,)

SECURITY_SCHEMES = {
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token with the scope, where Authorizer=JWT. One scope is enough.",
    },
    "sigv4": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "description": "AWS's signature by whom a policy allows the call, where Authorizer=IAM.",
        "x-amazon-apigateway-authtype": "awsSigv4",
    },
}
OF_CALLERS = {
    "401": "There is no access token, or it is not valid. Only where Authorizer=JWT.",
    "403": "The caller may not do this, or, where Authorizer=IAM, is unknown.",
}
"""What the gateway refuses before the API has a look at it."""


def document() -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    callers = access.load(Path(__file__).parents[1] / "template.yaml")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        for route in operation.routes:
            method, path = route.split(" ")
            described = _operation(operation, path) | _security(callers, route)
            described["responses"] |= _refusals_of_callers(callers, route)
            paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenReserve",
            "version": openreserve.__version__,
            "description": openreserve.__doc__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": SECURITY_SCHEMES},
    }


def refusals_of(operation: Operation) -> Iterator[type[NotDone]]:
    """All documented errors of an operation, its own and those of everybody."""
    if operation.body is not None:
        yield from OF_ANY_BODY
    yield from operation.refusals
    if 503 not in operation.answers:  # noqa: PLR2004 - health answers for itself
        yield from FAULTS_OF_WEBHOOKS if operation in OF_WEBHOOKS else FAULTS


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.carry_out.__name__ + ("_of_root" if path == "/health" else ""),
        "summary": (operation.carry_out.__doc__ or "").strip(),
        "parameters": [*_path_parameters(path), *_headers(operation), *_query(operation)],
        "responses": _answers(operation) | _refusals(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(operation.body)}
    return described


def _security(callers: access.Access, route: str) -> dict[str, Any]:
    """Alternatives, each of which is enough; none at all: anybody may call."""
    scopes = callers.scopes.get(route, ())
    return {"security": [{"jwt": [scope]} for scope in scopes] + [{"sigv4": []}] * bool(scopes)}


def _refusals_of_callers(callers: access.Access, route: str) -> dict[str, Any]:
    if route in callers.open_routes:
        return {}
    message = {"type": "object", "properties": {"message": {"type": "string"}}}
    return {
        status: {"description": meaning, "content": {"application/json": {"schema": message}}}
        for status, meaning in OF_CALLERS.items()
    }


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield {
                "name": part.strip("{}"),
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }


def _headers(operation: Operation) -> Iterator[dict[str, Any]]:
    for name, description in operation.headers.items():
        yield {
            "name": name,
            "in": "header",
            "required": errors.KeyMissing in operation.refusals,
            "description": description,
            "schema": {"type": "string"},
        }


def _query(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.query is not None:
        schema = operation.query.model_json_schema(by_alias=True, ref_template=OF_COMPONENTS)
        for name, described in schema["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": described}


def _answers(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {"description": HTTPStatus(status).phrase}
        | ({"content": _json(model)} if model is not None else {})
        for status, model in operation.answers.items()
    }


def _refusals(operation: Operation) -> dict[str, Any]:
    """By status, with every code that it can mean."""
    meanings: dict[int, list[str]] = {}
    for refusal in refusals_of(operation):
        status, code = STATUSES[refusal]
        meanings.setdefault(status, []).append(f"`{code}`: {refusal.sentence()}")
    status, code = UNFORESEEN
    meanings[status] = [f"`{code}`: Nobody foresaw this. It is logged under its `requestId`."]
    return {
        str(status): {
            "description": "\n\n".join(sentences),
            "content": {"application/problem+json": _schema(Problem)},
        }
        for status, sentences in sorted(meanings.items())
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": _schema(model)}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _schemas() -> Mapping[str, Any]:
    bodies = {operation.body for operation in OPERATIONS if operation.body}
    answers = {model for operation in OPERATIONS for model in operation.answers.values() if model}
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)]
        + [
            (model, "serialization")
            for model in sorted(answers | {Problem}, key=lambda model: model.__name__)
        ],
        ref_template=OF_COMPONENTS,
    )
    return dict(sorted(schemas["$defs"].items()))


if __name__ == "__main__":
    assert EVERYTHING_ELSE not in document()["paths"]
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
