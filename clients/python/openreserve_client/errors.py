"""Exceptions of the client: one class per error code of the API."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class OpenReserveError(Exception):
    """The API did not carry out the request. Its message is the problem document's `detail`."""

    code: ClassVar[str] = ""
    """The `code` of the problem document."""
    status: ClassVar[int] = 0
    """The HTTP status."""

    def __init_subclass__(cls, *, code: str = "", status: int = 0) -> None:
        """Register the class under its code."""
        super().__init_subclass__()
        if code:
            cls.code, cls.status = code, status
            ERRORS[code] = cls

    def __init__(self, details: Mapping[str, Any] = _EMPTY) -> None:
        super().__init__(details.get("detail") or (type(self).__doc__ or "").partition("\n")[0])
        self.details = details
        """The problem document (RFC 9457)."""


ERRORS: dict[str, type[OpenReserveError]] = {}
"""The exception class of each error code."""


class NotAnswered(Exception):
    """The client got no valid response from the API: the request may have been carried out or not.

    It is safe to repeat the call, with the same `key` if it has one.
    """

    def __init__(self, reason: str, *, status: int | None, code: str, key: str | None) -> None:
        super().__init__(reason)
        self.status = status
        """The HTTP status; None if there was no response."""
        self.code = code
        """The error code: `server_unreachable`, `http_<status>` or the code in the response."""
        self.key = key
        """The Idempotency-Key of the request."""


class Refusal(OpenReserveError):
    """The API refused the request and changed nothing."""


class BadRequest(Refusal):
    """The request is invalid."""


class BodyMissing(BadRequest, code="body_missing", status=400):
    """The request needs a JSON body."""


class BodyMalformed(BadRequest, code="body_malformed", status=400):
    """The body is not JSON in UTF-8, or has duplicate members."""


class BodyInvalid(BadRequest, code="body_invalid", status=400):
    """Fields of the body are missing, unknown or invalid."""


class TooManyItems(BadRequest, code="too_many_items", status=400):
    """The reservation has too many items."""


class IdempotencyKeyMissing(BadRequest, code="idempotency_key_missing", status=400):
    """The request needs an Idempotency-Key."""


class IdempotencyKeyInvalid(BadRequest, code="idempotency_key_invalid", status=400):
    """The Idempotency-Key is invalid."""


class ConditionInvalid(BadRequest, code="condition_invalid", status=400):
    """The If-Match or If-None-Match header is invalid."""


class QueryInvalid(BadRequest, code="query_invalid", status=400):
    """Parameters of the query are unknown or invalid."""


class BodyTooLarge(BadRequest, code="body_too_large", status=413):
    """The body is too large."""


class ContentTypeUnsupported(BadRequest, code="content_type_unsupported", status=415):
    """The Content-Type is not application/json."""


class ContentEncodingUnsupported(BadRequest, code="content_encoding_unsupported", status=415):
    """The body has a Content-Encoding, such as gzip."""


class NotFound(Refusal):
    """The API has no such object."""


class RouteNotFound(NotFound, code="route_not_found", status=404):
    """The API has no such path."""


class ResourceNotFound(NotFound, code="resource_not_found", status=404):
    """There is no resource with this id."""


class ReservationNotFound(NotFound, code="reservation_not_found", status=404):
    """There is no reservation with this token."""


class EndpointNotFound(NotFound, code="endpoint_not_found", status=404):
    """There is no webhook endpoint with this id."""


class MethodNotAllowed(NotFound, code="method_not_allowed", status=405):
    """The path does not support this method."""


class IdempotencyInProgress(Refusal, code="idempotency_in_progress", status=409):
    """A request with this Idempotency-Key is still in progress."""


class OutOfStock(Refusal, code="out_of_stock", status=409):
    """Fewer units are available than requested."""


class BelowAllocated(Refusal, code="below_allocated", status=409):
    """The new total is less than the number of units held or committed."""


class AlreadyReleased(Refusal, code="already_released", status=409):
    """The reservation is already released."""


class AlreadyCommitted(Refusal, code="already_committed", status=409):
    """The reservation is already committed."""


class AlreadyCancelled(Refusal, code="already_cancelled", status=409):
    """The reservation is already cancelled."""


class HoldExpired(Refusal, code="hold_expired", status=410):
    """The hold has expired."""


class VersionMismatch(Refusal, code="version_mismatch", status=412):
    """The resource has another version than If-Match or If-None-Match allows."""


class PreconditionFailed(Refusal, code="precondition_failed", status=412):
    """The precondition of the request does not hold."""


class IdempotencyKeyReused(Refusal, code="idempotency_key_reused", status=422):
    """The Idempotency-Key was already used for a different request."""


class TtlOutOfRange(Refusal, code="ttl_out_of_range", status=422):
    """The TTL is shorter or longer than allowed."""


class TotalOutOfRange(Refusal, code="total_out_of_range", status=422):
    """The new total is outside the allowed range."""


class Fault(OpenReserveError):
    """A dependency of the API failed. It is safe to repeat the call with the same key."""


class Contention(Fault, code="contention", status=503):
    """Too many concurrent requests for the same stock. Try again."""


class DatabaseUnavailable(Fault, code="database_unavailable", status=503):
    """The API cannot reach Postgres. Try again."""


class ServiceUnavailable(Fault, code="service_unavailable", status=503):
    """An AWS service that the API uses failed. Try again."""
