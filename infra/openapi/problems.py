"""Problem documents: one schema per code, and the error responses of operations."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel, to_pascal
from pydantic.config import JsonDict

from infra.openapi.schemas import reference
from openreserve.domain import errors
from openreserve.domain.errors import OpenReserveError
from openreserve.domain.reservations import Status
from openreserve.http.problems import RETRY_AFTER_SECONDS, STATUSES, UNHANDLED
from openreserve.http.schemas.fields import Instant, InvalidFields
from openreserve.http.schemas.health import Problem

PROBLEM_JSON = "application/problem+json"
UNHANDLED_SENTENCE = "The request failed unexpectedly. The log has the reason, by `requestId`."


class Shortage(BaseModel):
    """A requested item, and the units available of it."""

    model_config = ConfigDict(alias_generator=to_camel)

    resource_id: str
    requested: int
    available: Annotated[int, Field(ge=0)]


_ENDED: Mapping[str, Any] = {
    "reservation_status": (Status, ...),
    "expires_at": (Instant, ...),
}
_FIELDS: Mapping[str, Any] = {"errors": (InvalidFields, ...)}
_INT64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
# The only nullable detail: a resource that does not exist has no version.
_VERSION: JsonDict = {"type": ["integer", "null"], "format": "int64"}
_DETAILS: Mapping[type[OpenReserveError], Mapping[str, Any]] = {
    errors.BodyInvalid: _FIELDS,
    errors.QueryInvalid: _FIELDS,
    errors.BodyTooLarge: {"body_bytes": (int, ...), "body_bytes_max": (int, ...)},
    errors.ContentTypeUnsupported: {"content_type": (str, ...)},
    errors.TooManyItems: {"items": (int, ...), "items_max": (int, ...)},
    errors.IdempotencyKeyInvalid: {"length_max": (int, ...)},
    errors.ConditionInvalid: {"header": (str | None, None)},
    errors.ResourceNotFound: {"resource_id": (str, ...)},
    errors.EndpointNotFound: {"endpoint_id": (str, ...)},
    errors.OutOfStock: {"items": (list[Shortage], ...)},
    errors.TtlOutOfRange: {"ttl_seconds": (_INT64, ...), "ttl_seconds_max": (int, ...)},
    errors.BelowAllocated: {"total_stock": (_INT64, ...), "allocated_stock": (_INT64, ...)},
    errors.TotalOutOfRange: {"total_stock_max": (_INT64, ...)},
    errors.VersionMismatch: {
        "version": (int, Field(description="The present one.", json_schema_extra=_VERSION))
    },
    errors.HoldExpired: {
        "reservation_status": (Status, ...),
        "expires_at": (Instant | None, None),
        "items": (
            list[Shortage] | None,
            Field(
                None, description="With `ifExpired: reacquire`: the items that are not available."
            ),
        ),
    },
    errors.AlreadyReleased: _ENDED,
    errors.AlreadyCommitted: _ENDED,
    errors.AlreadyCancelled: _ENDED,
}
"""Additional members by error."""


class _Documented(Problem):
    """The members of every problem document."""

    model_config = ConfigDict(alias_generator=to_camel)


def _constant(value: object) -> Any:
    return Literal[value]


def model_of(refusal: type[OpenReserveError] | None) -> type[BaseModel]:
    """The problem document of an error. None: of an unhandled exception."""
    return _MODELS[refusal]


def _create_model(refusal: type[OpenReserveError] | None) -> type[BaseModel]:
    status, code = UNHANDLED if refusal is None else STATUSES[refusal]
    details = _DETAILS.get(refusal, {}) if refusal else {}
    sentence = refusal.sentence() if refusal else UNHANDLED_SENTENCE
    return model(status, code, sentence, details)


def model(
    status: int, code: str, sentence: str, details: Mapping[str, Any] | None = None
) -> type[BaseModel]:
    """The problem document of a code."""
    problem: type[BaseModel] = create_model(
        f"{to_pascal(code)}Problem",
        __base__=_Documented,
        __doc__=sentence,
        status=(_constant(status), ...),
        code=(_constant(code), ...),
        **(details or {}),
    )
    return problem


_MODELS = {refusal: _create_model(refusal) for refusal in (*STATUSES, None)}
"""One model per error, since a component has one model."""


def by_status(refusals: Iterable[type[OpenReserveError]]) -> dict[str, dict[str, Any]]:
    """The error responses of an operation, by status."""
    grouped: dict[int, list[type[OpenReserveError]]] = {}
    for refusal in refusals:
        grouped.setdefault(STATUSES[refusal][0], []).append(refusal)
    return {str(status): _response(group) for status, group in sorted(grouped.items())}


def unhandled() -> dict[str, Any]:
    """The response to an unhandled exception."""
    return described(f"`{UNHANDLED[1]}`: {UNHANDLED_SENTENCE}", [model_of(None)])


def described(description: str, models: list[type[BaseModel]], *headers: str) -> dict[str, Any]:
    """A response with one of these problem documents."""
    schemas = [reference(model) for model in models]
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {
            PROBLEM_JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}
        },
    }


def _response(refusals: list[type[OpenReserveError]]) -> dict[str, Any]:
    sentences = (f"`{STATUSES[refusal][1]}`: {refusal.sentence()}" for refusal in refusals)
    headers = ["Retry-After"] if any(each in RETRY_AFTER_SECONDS for each in refusals) else []
    headers += ["Accept-Encoding"] if errors.ContentEncodingUnsupported in refusals else []
    return described("\n\n".join(sentences), [model_of(each) for each in refusals], *headers)
