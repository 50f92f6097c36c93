"""The OpenAPI document, made from the handlers' declarations and models: `make openapi`."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

import openreserve
from functions.backoffice import app as backoffice
from functions.commit import app as commit
from functions.endpoints import app as endpoints
from functions.release import app as release
from functions.reserve import app as reserve
from functions.stock import app as stock
from infra.local.auth import access
from infra.openapi import gateway, problems, requests, schemas, webhooks
from infra.openapi.examples import Examples, response_examples
from infra.openapi.links import links
from openreserve.domain import errors
from openreserve.domain.errors import OpenReserveError
from openreserve.http.handler import Operation
from openreserve.http.problems import UNHANDLED
from openreserve.http.schemas.events import EventView

FILE = Path(__file__).parents[1] / "openapi.json"

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
OF_CONDITIONS = (errors.ConditionInvalid, errors.PreconditionFailed)
"""Of operations that do not know If-Match or If-None-Match, which a caller may send to any."""
FAULTS = (errors.Contention, errors.DatabaseUnavailable)
FAULTS_OF_WEBHOOKS = (errors.ServiceUnavailable,)

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
        yield from FAULTS_OF_WEBHOOKS if operation in OF_WEBHOOKS else FAULTS


def _paths() -> dict[str, dict[str, Any]]:
    callers = access.load(Path(__file__).parents[2] / "template.yaml")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        for route in operation.routes:
            method, path = route.split(" ")
            paths.setdefault(path, {})[method.lower()] = _operation(operation, route, callers)
    return paths


def _operation(operation: Operation, route: str, callers: access.Access) -> dict[str, Any]:
    _, path = route.split(" ")
    summary, _, description = (operation.carry_out.__doc__ or "").partition("\n")
    name = to_camel(operation.carry_out.__name__)
    examples = Examples.of(route, name)
    described: dict[str, Any] = {
        "operationId": name + ("OfRoot" if path == "/health" else ""),
        "tags": [operation.tag],
        "summary": summary.strip().rstrip("."),
        "description": " ".join(description.split()),
        "parameters": requests.parameters(operation, path, examples),
        "responses": _responses(operation, name, route, callers, examples),
        "security": _security(callers, route),
    }
    if operation.body is not None:
        described["requestBody"] = requests.body(operation.body, examples)
    return described


def _security(callers: access.Access, route: str) -> list[dict[str, Any]]:
    """Alternatives, each of which is enough; none at all: no credentials are asked for."""
    scopes = callers.scopes.get(route, ())
    return [{"jwt": [scope]} for scope in scopes] + [{"sigv4": []}] * bool(scopes)


def _responses(
    operation: Operation, name: str, route: str, callers: access.Access, examples: Examples
) -> dict[str, Any]:
    refusals = problems.by_status(refusals_of(operation))
    unforeseen = {str(UNHANDLED[0]): problems.unforeseen()}
    own = _answers(operation, name) | refusals | unforeseen
    for response in own.values():
        response["headers"] |= gateway.header_references("x-request-id")
    whole = gateway.with_answers_of_gateway(own, is_open=route in callers.open_routes)
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
    bodies = {operation.body for operation in OPERATIONS if operation.body}
    refusals = {refusal for operation in OPERATIONS for refusal in refusals_of(operation)}
    answers: set[type[BaseModel]] = {
        model for operation in OPERATIONS for model in operation.answers.values() if model
    }
    answers |= {problems.model_of(refusal) for refusal in refusals | {None}}
    answers |= {gateway.GatewayMessage, webhooks.PingEvent, EventView}
    return schemas.components(bodies, answers)
