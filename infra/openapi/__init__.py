"""Generates the OpenAPI document from the handlers' declarations and models: `make openapi`."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

import openreserve
from infra.openapi import gateway, problems, requests, schemas, webhooks
from infra.openapi.examples import Examples, response_examples
from infra.openapi.links import links
from infra.openapi.operations import operations
from openreserve.domain import errors
from openreserve.domain.errors import OpenReserveError
from openreserve.http.handler import Operation
from openreserve.http.problems import UNHANDLED
from openreserve.http.routes import Route
from openreserve.http.schemas.events import EventView

FILE = Path(__file__).parents[1] / "openapi.json"

BODY_ERRORS = (
    errors.BodyMissing,
    errors.BodyMalformed,
    errors.BodyInvalid,
    errors.BodyTooLarge,
    errors.ContentTypeUnsupported,
    errors.ContentEncodingUnsupported,
)
CONDITION_ERRORS = (errors.ConditionInvalid, errors.PreconditionFailed)
"""Errors of operations without conditions of their own: a caller may send If-Match to any."""
FAULTS = (errors.Contention, errors.DatabaseUnavailable)
WEBHOOK_FAULTS = (errors.ServiceUnavailable,)
WEBHOOK_TAGS = ("Webhooks", "Dead letters")
"""Their operations use services of AWS, not Postgres."""

DESCRIPTION = f"""{openreserve.__doc__}

Errors are problem documents (RFC 9457) with a stable `code`. They are checked in this order:
request format (400, 413, 415), reused Idempotency-Key (422), existence (404), state (409, 410),
limits (422), stock (409), contention (503).

Limits are those of the default settings; a stage may have others.

An unsupported method returns 405 `method_not_allowed` with the header Allow, and an unknown path
404 `route_not_found`.
"""
TAGS = {
    "Reservations": "Hold stock, then commit or release it.",
    "Stock": "Resources and their units.",
    "Events": "Events that clients poll.",
    "Webhooks": "Endpoints that events are delivered to.",
    "Deliveries": "Requests that endpoints receive.",
    "Dead letters": "Events that could not be delivered.",
    "Health": "Health of the service.",
}
SERVERS = [
    {"url": "/", "description": "The server of this document: `make run`."},
    {
        "url": "https://{apiId}.execute-api.{region}.amazonaws.com",
        "description": "A stage on AWS: the output `ApiUrl` of its stack.",
        "variables": {
            "apiId": {"default": "a1b2c3d4e5", "description": "The id of the API."},
            "region": {"default": "eu-central-1", "description": "The region of the stage."},
        },
    },
]
SECURITY_SCHEMES = {
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "With Authorizer=JWT: an access token with one of the scopes of the "
        "operation: `openreserve/read`, `openreserve/reserve` or `openreserve/operate`.",
    },
    "sigv4": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "description": "With Authorizer=IAM: an AWS Signature Version 4 (service `execute-api`) of "
        "a caller whose IAM policy allows the call.",
        "x-amazon-apigateway-authtype": "awsSigv4",
    },
}


def document() -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    paths = _paths()
    responses = gateway.shared(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenReserve",
            "version": openreserve.__version__,
            "description": DESCRIPTION,
            "contact": {"name": "The operator of this stage"},
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "servers": SERVERS,
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "webhooks": webhooks.webhooks(),
        "components": {
            "schemas": _schemas(),
            "responses": responses,
            "headers": gateway.headers(),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def errors_of(operation: Operation) -> Iterator[type[OpenReserveError]]:
    """All documented errors of an operation, including those of its kind."""
    if operation.body is not None:
        yield from BODY_ERRORS
    yield from operation.refusals
    if not {"If-Match", "If-None-Match"} <= operation.headers.keys():
        yield from (refusal for refusal in CONDITION_ERRORS if refusal not in operation.refusals)
    if 503 not in operation.answers:  # noqa: PLR2004 - health answers for itself
        uses_aws = operation.routes[0].tag in WEBHOOK_TAGS
        yield from WEBHOOK_FAULTS if uses_aws else FAULTS


def _paths() -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations():
        for route in operation.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(operation, route)
    return paths


def _operation(operation: Operation, route: Route) -> dict[str, Any]:
    summary, _, description = (operation.carry_out.__doc__ or "").partition("\n")
    name = to_camel(route.name)
    examples = Examples.of(route.key, to_camel(operation.carry_out.__name__))
    described: dict[str, Any] = {
        "operationId": name,
        "tags": [route.tag],
        "summary": summary.strip().rstrip("."),
        "description": " ".join(description.split()),
        "parameters": requests.parameters(operation, route.path, examples),
        "responses": _responses(operation, route, examples),
        "security": _security(route),
    }
    if operation.body is not None:
        described["requestBody"] = requests.body(operation.body, examples)
    return described


def _security(route: Route) -> list[dict[str, Any]]:
    """Alternatives, each of which is enough; empty: no credentials are required."""
    with_iam: list[dict[str, Any]] = [{"sigv4": []}] if route.scopes else []
    return [{"jwt": [scope.value]} for scope in route.scopes] + with_iam


def _responses(operation: Operation, route: Route, examples: Examples) -> dict[str, Any]:
    refusals = problems.by_status(errors_of(operation))
    unhandled = {str(UNHANDLED[0]): problems.unhandled()}
    own = _successes(operation, to_camel(operation.carry_out.__name__)) | refusals | unhandled
    for response in own.values():
        response["headers"] |= gateway.header_references("x-request-id")
    whole = gateway.with_gateway_responses(own, is_open=not route.scopes)
    return response_examples(whole, examples)


def _successes(operation: Operation, name: str) -> dict[str, Any]:
    following = links(name)
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": gateway.header_references(*_sent(operation, status)),
            **(_content(model) if model else {}),
            **({"links": following} if following else {}),
        }
        for status, model in operation.answers.items()
    }


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schemas.reference(model)}}}


def _sent(operation: Operation, status: int) -> tuple[str, ...]:
    return () if status >= 400 else tuple(operation.sends)  # noqa: PLR2004 - errors


def _schemas() -> dict[str, Any]:
    bodies = {operation.body for operation in operations() if operation.body}
    refusals = {refusal for operation in operations() for refusal in errors_of(operation)}
    response_models: set[type[BaseModel]] = {
        model for operation in operations() for model in operation.answers.values() if model
    }
    response_models |= {problems.model_of(refusal) for refusal in refusals | {None}}
    response_models |= {gateway.GatewayMessage, webhooks.PingEvent, EventView}
    return schemas.components(bodies, response_models)
