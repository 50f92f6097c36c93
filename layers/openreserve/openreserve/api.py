"""HTTP in, HTTP out: what every handler shares. Knows API Gateway's events, and no rule of stock.

The order of checks is part of the API: the form of the request (400, 413, 415), replay or reuse of
a key (422), existence (404), state (409, 410), limits (422), stock (409), contention (503).
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
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from openreserve import errors, snapshots, stopwatch
from openreserve.errors import NotDone
from openreserve.holds import Order
from openreserve.logs import logger, masked, tell
from openreserve.problems import RETRY_AFTER_SECONDS, problem
from openreserve.settings import settings
from openreserve.stock import summed
from openreserve.views import ReserveBody, faults

KEY_LENGTH_MAX = 255

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


Model = TypeVar("Model", bound=BaseModel)
Carry = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: what carries it out and what the OpenAPI document says of it."""

    routes: Sequence[str]
    carry_out: Carry
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    headers: Mapping[str, str]
    answers: Mapping[int, type[BaseModel] | None]
    refusals: Sequence[type[NotDone]]
    tag: str
    sends: Sequence[str]
    """The headers that an answer has beyond those of every response, as OpenAPI spells them."""

    def __call__(self, request: Request) -> Answer:
        """Carry the request out, with its body or its query as another argument if it has one."""
        if self.body is not None:
            return self.carry_out(request, _body(request, self.body))
        if self.query is not None:
            return self.carry_out(request, _query(request, self.query))
        return self.carry_out(request)


def operation(  # noqa: PLR0913 - a declaration has a keyword for each of its parts
    *routes: str,
    answers: Mapping[int, type[BaseModel] | None],
    refusals: Sequence[type[NotDone]] = (),
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    tag: str = "",
    sends: Sequence[str] = (),
) -> Callable[[Carry], Operation]:
    """Declare what carries out the routes. OpenAPI has its docstring as summary and description."""

    def declare(carry_out: Carry) -> Operation:
        return Operation(
            routes, carry_out, body, query, headers or {}, answers, refusals, tag, sends
        )

    return declare


def entry_point(*operations: Operation) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """The Lambda handler for these operations. It always answers; what nobody foresaw is a 500."""
    snapshots.register()
    by_route = {route: operation for operation in operations for route in operation.routes}

    def handler(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
        started = time.perf_counter()
        request = _request(event)
        try:
            answer = by_route[request.route](request)
        except NotDone as reason:
            answer = _refused(request, reason)
        except Exception:  # noqa: BLE001 - the caller gets an answer, the log the reason
            # Postgres repeats rows in its errors, and they have tokens.
            trace = masked(traceback.format_exc())
            logger().error("Nobody foresaw this", extra={"requestId": request.id, "trace": trace})
            answer = _refused(request, None)
        _account(request, answer, (time.perf_counter() - started) * 1_000)
        return _response(request, answer)

    return handler


def order(request: Request, body: ReserveBody) -> Order:
    """What a request to reserve asks for.

    Its hash is that of the canonical JSON of the body, so that neither the order of the fields nor
    white space makes a repeat another request.

    Raises:
        KeyMissing, KeyInvalid, TooManyItems: what the names say.
    """
    canonical = json.dumps(json.loads(request.content), sort_keys=True, separators=(",", ":"))
    items = body.lines()
    if len(items) > settings().items_max:
        raise errors.TooManyItems(items=len(items), itemsMax=settings().items_max)
    ttl_seconds = body.ttl_seconds
    return Order(
        key=idempotency_key(request),
        request_hash=hashlib.sha256(f"{request.route}\n{canonical}".encode()).digest(),
        items=summed(items),
        ttl_seconds=settings().ttl_seconds_usual if ttl_seconds is None else ttl_seconds,
    )


def idempotency_key(request: Request) -> str:
    """The key, bare or as a quoted string (RFC 8941, which the draft for this header asks for).

    Raises:
        KeyMissing, KeyInvalid: what the names say.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        raise errors.KeyMissing
    key = key.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isprintable():
        raise errors.KeyInvalid(lengthMax=KEY_LENGTH_MAX)
    return key


def entity_tag(version: int, view: str) -> str:
    """The strong ETag of a resource's view. It starts with the version, all that If-Match needs."""
    return f'"{version}-{hashlib.blake2b(view.encode(), digest_size=6).hexdigest()}"'


def expected_version(request: Request) -> int | None:
    """The version that If-Match asks for; None: there is no If-Match.

    Only the version counts, not the rest of the ETag: reservations come and go between a read and
    a change of the total, and the change allows for them.

    Raises:
        ConditionInvalid: it is not an ETag that this API gave out.
    """
    condition = request.headers.get("if-match")
    if condition is None:
        return None
    found = re.fullmatch(r'\s*"?(\d{1,18})(-[0-9a-f]{12})?"?\s*', condition, re.ASCII)
    if found is None:
        raise errors.ConditionInvalid(ifMatch=condition)
    return int(found[1])


def unchanged(request: Request, tag: str) -> bool:
    """Whether If-None-Match says that the caller has this very view."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in (
        part.strip().removeprefix("W/") for part in known.split(",")
    )


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


def _body(request: Request, model: type[Model]) -> Model:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise errors.ContentTypeUnsupported(contentType=media_type)
    if len(request.content) > settings().body_bytes_max:
        raise errors.BodyTooLarge(
            bodyBytes=len(request.content), bodyBytesMax=settings().body_bytes_max
        )
    if not request.content.strip():
        raise errors.BodyMissing
    try:
        return model.model_validate_json(request.content)
    except ValidationError as invalid:
        if any(error["type"] == "json_invalid" for error in invalid.errors()):
            raise errors.BodyMalformed from invalid
        raise errors.BodyInvalid(errors=faults(invalid)) from invalid


def _query(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate(request.query)
    except ValidationError as invalid:
        raise errors.QueryInvalid(errors=faults(invalid)) from invalid


def _refused(request: Request, error: NotDone | None) -> Answer:
    status, code, document = problem(error, request.path, request.id)
    headers = {"content-type": "application/problem+json"}
    if error is not None and type(error) in RETRY_AFTER_SECONDS:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS[type(error)])
    if isinstance(error, errors.MethodNotAllowed):
        headers["allow"] = ", ".join(error.details["allow"])
    return Answer(status, document, headers, outcome=code, metrics=_refusals(error))


def _refusals(error: NotDone | None) -> Mapping[str, float]:
    if not isinstance(error, errors.OutOfStock):
        return {}
    return {"RefusalsByMarker" if error.by_marker else "RefusalsByPostgres": 1}


def _account(request: Request, answer: Answer, duration_ms: float) -> None:
    """One line per outcome, which is its log entry and its metrics at once (CloudWatch's EMF)."""
    measured = {"Requests": 1, "Duration": duration_ms, **answer.metrics, **stopwatch.take()}
    if not next(_calls):
        measured["ColdStarts"] = 1
    tell(
        measured,
        dimensions={"route": request.route, "outcome": answer.outcome},
        facts={"status": answer.status, "requestId": request.id},
    )


def _response(request: Request, answer: Answer) -> dict[str, Any]:
    return {
        "statusCode": answer.status,
        "headers": {
            "content-type": "application/json",
            "x-request-id": request.id,
            **answer.headers,
        },
        "body": answer.body,
        "isBase64Encoded": False,
    }
