"""HTTP in, HTTP out: what every handler shares. Knows API Gateway's events, and no rule of stock.

The order of checks is part of the API: conditions where there are no ETags (412), the form of the
request (400, 413, 415), replay or reuse of a key (422), existence (404), state (409, 410, 412),
limits (422), stock (409), contention (503).
"""

import base64
import binascii
import hashlib
import itertools
import json
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from openreserve.domain import errors
from openreserve.domain.errors import OpenReserveError
from openreserve.domain.reservations import HoldRequest
from openreserve.domain.resources import summed
from openreserve.http import bodies, idempotency, preconditions
from openreserve.http.preconditions import Tags
from openreserve.http.problems import RETRY_AFTER_SECONDS, problem
from openreserve.http.routes import Route
from openreserve.http.schemas.reservations import ReserveBody
from openreserve.runtime import snapstart, telemetry
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit, logger, masked

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_READING = ("GET", "HEAD")
_SAFE_IN_A_PATH = "/:@!$&'()*+,;="
"""What RFC 3986 lets stand in a path as it is, beside letters, digits and -._~"""

_calls = itertools.count()
"""Of this environment: its first call is a cold start."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, as API Gateway hands it over."""

    id: str
    route: str
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name."""
    path_parameters: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str]
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, but for what every response has."""

    status: int
    body: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    outcome: str = "ok"
    """For the log and the metrics: a word, never an id."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What else is counted of it."""


Carry = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: what carries it out and what the OpenAPI document says of it."""

    routes: Sequence[Route]
    carry_out: Carry
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    headers: Mapping[str, str]
    answers: Mapping[int, type[BaseModel] | None]
    refusals: Sequence[type[OpenReserveError]]
    sends: Sequence[str]
    """The headers that an answer has beyond those of every response, as OpenAPI spells them."""

    def __call__(self, request: Request) -> Answer:
        """Carry the request out, unless a condition forbids it that the operation does not know.

        It counts only where the request would succeed without it (RFC 9110, section 13.2.1).
        """
        if request.method in _READING:
            answer = self._carry_out(request)
            if answer.status == HTTPStatus.OK:
                self._check_conditions(request)
            return answer
        if self.answers:  # else it refuses whatever it gets
            self._check_conditions(request)
        return self._carry_out(request)

    def _carry_out(self, request: Request) -> Answer:
        """With the body or the query as another argument, if it has one."""
        if self.body is not None:
            return self.carry_out(request, bodies.read(request.headers, request.content, self.body))
        if self.query is not None:
            return self.carry_out(request, bodies.read_query(request.query, self.query))
        return self.carry_out(request)

    def _check_conditions(self, request: Request) -> None:
        """Refuse what a caller does not want to happen, where there are no ETags to compare."""
        if not self.answers:
            return  # the path or the method is wrong, whatever the condition says
        if "If-Match" not in self.headers and "if-match" in request.headers:
            tags = condition(request, "if-match")
            if tags is not None and not tags.anything:
                raise errors.PreconditionFailed
        if "If-None-Match" not in self.headers and "if-none-match" in request.headers:
            tags = condition(request, "if-none-match")
            if tags is not None and tags.anything and request.method not in _READING:
                raise errors.PreconditionFailed


def operation(  # noqa: PLR0913 - a declaration has a keyword for each of its parts
    *routes: Route,
    answers: Mapping[int, type[BaseModel] | None],
    refusals: Sequence[type[OpenReserveError]] = (),
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    sends: Sequence[str] = (),
) -> Callable[[Carry], Operation]:
    """Declare what carries out the routes. OpenAPI has its docstring as summary and description."""

    def declare(carry_out: Carry) -> Operation:
        return Operation(routes, carry_out, body, query, headers or {}, answers, refusals, sends)

    return declare


def lambda_handler(*operations: Operation) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """The Lambda handler for these operations. It always answers; what nobody foresaw is a 500."""
    snapstart.register()
    by_route = {
        key: operation
        for operation in operations
        for route in operation.routes
        for key in route.keys
    }

    def handler(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
        started = time.perf_counter()
        request = _request(event)
        try:
            answer = by_route[request.route](request)
        except OpenReserveError as reason:
            answer = _refused(request, reason)
        except Exception:  # noqa: BLE001 - the caller gets an answer, the log the reason
            # Postgres repeats rows in its errors, and they have tokens.
            trace = masked(traceback.format_exc())
            logger().error("Nobody foresaw this", extra={"requestId": request.id, "trace": trace})
            answer = _refused(request, None)
        _account(request, answer, (time.perf_counter() - started) * 1_000)
        return _response(request, answer)

    return handler


def hold_request(request: Request, body: ReserveBody) -> HoldRequest:
    """What a request to reserve asks for.

    Its hash is that of the canonical JSON of the body as it was understood. So a repeat may have
    its fields in another order, other white space, 1.0 for 1, or NFD for NFC.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid, TooManyItems: what the names say.
    """
    understood = body.model_dump(by_alias=True, exclude_unset=True)
    canonical = _CANONICAL.encode(understood)
    items = body.lines()
    if len(items) > settings().items_max:
        raise errors.TooManyItems(items=len(items), itemsMax=settings().items_max)
    ttl_seconds = body.ttl_seconds
    return HoldRequest(
        key=idempotency_key(request),
        request_hash=hashlib.sha256(f"{request.route}\n{canonical}".encode()).digest(),
        items=summed(items),
        ttl_seconds=settings().ttl_seconds_usual if ttl_seconds is None else ttl_seconds,
    )


def idempotency_key(request: Request) -> str:
    """The key that names the request.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid: what the names say.
    """
    field = request.headers.get("idempotency-key")
    if field is None:
        raise errors.IdempotencyKeyMissing
    try:
        return idempotency.parsed_key(field)
    except ValueError:
        raise errors.IdempotencyKeyInvalid(lengthMax=idempotency.KEY_LENGTH_MAX) from None


def condition(request: Request, name: str) -> Tags | None:
    """The entity tags that If-Match or If-None-Match names; None: there is no such header.

    Raises:
        ConditionInvalid: it is neither `*` nor a list of entity tags.
    """
    field = request.headers.get(name)
    try:
        return None if field is None else preconditions.parsed(field)
    except ValueError:
        raise errors.ConditionInvalid(header=name) from None


def _request(event: Mapping[str, Any]) -> Request:
    http = event["requestContext"]["http"]
    content = event.get("body") or ""
    try:
        content_bytes = (
            base64.b64decode(content) if event.get("isBase64Encoded") else content.encode()
        )
    except (binascii.Error, UnicodeEncodeError):
        content_bytes = b"\xff"  # no JSON: refused as such by whoever reads it
    return Request(
        id=event["requestContext"]["requestId"],
        route=event["routeKey"],
        method=http["method"],
        path=event["rawPath"],
        headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
        path_parameters=event.get("pathParameters") or {},
        query=event.get("queryStringParameters") or {},
        content=content_bytes,
    )


def _refused(request: Request, error: OpenReserveError | None) -> Answer:
    status, code, document = problem(error, _reference(request), request.id)
    headers = {"content-type": "application/problem+json"}
    if error is not None and type(error) in RETRY_AFTER_SECONDS:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS[type(error)])
    if isinstance(error, errors.MethodNotAllowed):
        headers["allow"] = ", ".join(error.details["allow"])
    if isinstance(error, errors.ContentEncodingUnsupported):
        headers["accept-encoding"] = "identity"
    return Answer(status, document, headers, outcome=code, metrics=_refusals(error))


def _reference(request: Request) -> str:
    """The path as it stands in a URL. API Gateway decodes it, and cuts it at a decoded `?`."""
    if not request.path_parameters:
        return quote(request.path, safe=_SAFE_IN_A_PATH)
    template = request.route.partition(" ")[2]
    values = {name: quote(value, safe="") for name, value in request.path_parameters.items()}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)


def _refusals(error: OpenReserveError | None) -> Mapping[str, float]:
    if not isinstance(error, errors.OutOfStock):
        return {}
    return {"RefusalsByMarker" if error.by_marker else "RefusalsByPostgres": 1}


def _account(request: Request, answer: Answer, duration_ms: float) -> None:
    """One line per outcome, which is its log entry and its metrics at once (CloudWatch's EMF)."""
    measured = {"Requests": 1, "Duration": duration_ms, **answer.metrics, **telemetry.take()}
    if not next(_calls):
        measured["ColdStarts"] = 1
    emit(
        measured,
        dimensions={"route": request.route, "outcome": answer.outcome},
        facts={"status": answer.status, "requestId": request.id},
    )


def _response(request: Request, answer: Answer) -> dict[str, Any]:
    headers = {
        "content-type": "application/json",
        "x-request-id": request.id,
        **answer.headers,
    }
    body = answer.body
    if request.method == "HEAD" and body:
        headers["content-length"], body = str(len(body.encode())), ""
    return {
        "statusCode": answer.status,
        "headers": headers,
        "body": body,
        "isBase64Encoded": False,
    }
