"""The OpenAPI document, made from the handlers' declarations and models: `make openapi`."""

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

OF_ANY_BODY = (
    errors.BodyMissing,
    errors.BodyMalformed,
    errors.BodyInvalid,
    errors.BodyTooLarge,
    errors.ContentTypeUnsupported,
    errors.ContentEncodingUnsupported,
)
OF_CONDITIONS = (errors.ConditionInvalid, errors.PreconditionFailed)
"""Of operations that do not know If-Match or If-None-Match, which a caller may send to any."""
FAULTS = (errors.Contention, errors.DatabaseUnavailable)
FAULTS_OF_WEBHOOKS = (errors.ServiceUnavailable,)
TAGS_OF_WEBHOOKS = ("Webhooks", "Dead letters")
"""Their operations use services of AWS, not Postgres."""

DESCRIPTION = f"""{openreserve.__doc__}

Errors are problem documents (RFC 9457) with a stable `code`. They are looked for in this order: the
form of the request (400, 413, 415), an Idempotency-Key that was used (422), existence (404), state
(409, 410), limits (422), stock (409), contention (503).

The limits are those of a stage with the default settings; a stage may have others.

A method that a path does not take is answered 405 `method_not_allowed` with the header Allow, and a
path that does not exist 404 `route_not_found`.
"""
TAGS = {
    "Reservations": "Hold stock, then commit or release it.",
    "Stock": "Resources and how many units there are of each.",
    "Events": "What happened, to be pulled.",
    "Webhooks": "Endpoints, to which events are delivered.",
    "Deliveries": "What endpoints receive.",
    "Dead letters": "Events whose delivery was given up.",
    "Health": "Whether the service works.",
}
SERVERS = [
    {"url": "/", "description": "Where this document is served: `make run`."},
    {
        "url": "https://{apiId}.execute-api.{region}.amazonaws.com",
        "description": "A stage on AWS: the output ApiUrl of its stack.",
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
        "tags": [{"name": name, "description": meaning} for name, meaning in TAGS.items()],
        "paths": paths,
        "webhooks": webhooks.webhooks(),
        "components": {
            "schemas": _schemas(),
            "responses": responses,
            "headers": gateway.headers(),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def refusals_of(operation: Operation) -> Iterator[type[OpenReserveError]]:
    """All documented errors of an operation, its own and those of every one like it."""
    if operation.body is not None:
        yield from OF_ANY_BODY
    yield from operation.refusals
    if not {"If-Match", "If-None-Match"} <= operation.headers.keys():
        yield from (refusal for refusal in OF_CONDITIONS if refusal not in operation.refusals)
    if 503 not in operation.answers:  # noqa: PLR2004 - health answers for itself
        uses_aws = operation.routes[0].tag in TAGS_OF_WEBHOOKS
        yield from FAULTS_OF_WEBHOOKS if uses_aws else FAULTS


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
    refusals = problems.by_status(refusals_of(operation))
    unforeseen = {str(UNHANDLED[0]): problems.unforeseen()}
    own = _answers(operation, to_camel(operation.carry_out.__name__)) | refusals | unforeseen
    for response in own.values():
        response["headers"] |= gateway.header_references("x-request-id")
    whole = gateway.with_answers_of_gateway(own, is_open=not route.scopes)
    return response_examples(whole, examples)


def _answers(operation: Operation, name: str) -> dict[str, Any]:
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
    refusals = {refusal for operation in operations() for refusal in refusals_of(operation)}
    answers: set[type[BaseModel]] = {
        model for operation in operations() for model in operation.answers.values() if model
    }
    answers |= {problems.model_of(refusal) for refusal in refusals | {None}}
    answers |= {gateway.GatewayMessage, webhooks.PingEvent, EventView}
    return schemas.components(bodies, answers)
