"""All errors that a request can end with. Pure: no clock, no I/O.

Refusal                       the request was refused; nothing was changed
├── BadRequest                the request does not have the documented form
│   ├── BodyMissing
│   ├── BodyMalformed
│   ├── BodyInvalid
│   ├── BodyTooLarge
│   ├── ContentTypeUnsupported
│   ├── ContentEncodingUnsupported
│   ├── TooManyItems
│   ├── IdempotencyKeyMissing
│   ├── IdempotencyKeyInvalid
│   ├── ConditionInvalid
│   └── QueryInvalid
├── NotFound
│   ├── RouteNotFound
│   ├── MethodNotAllowed
│   ├── ResourceNotFound
│   ├── ReservationNotFound
│   └── EndpointNotFound
├── IdempotencyKeyReused      the Idempotency-Key belongs to another request
├── IdempotencyInProgress     the Idempotency-Key belongs to a request that is in progress
├── TtlOutOfRange
├── OutOfStock
├── BelowAllocated
├── TotalOutOfRange
├── VersionMismatch
├── PreconditionFailed        likewise, on a route that issues no ETags
├── HoldExpired
├── AlreadyReleased
├── AlreadyCommitted
└── AlreadyCancelled

Fault                         a dependency failed; the same request may be repeated, with the same
├── Contention                Idempotency-Key
├── DatabaseUnavailable
└── ServiceUnavailable
"""

from collections.abc import Mapping
from typing import Any


class OpenReserveError(Exception):
    """The request was not carried out."""

    def __init__(self, **details: Any) -> None:
        """Keep the details, which become members of the problem document."""
        super().__init__(self.sentence())
        self.details: Mapping[str, Any] = details

    @classmethod
    def sentence(cls) -> str:
        """The first line of the class's docstring: what was not done, and why."""
        return (cls.__doc__ or OpenReserveError.__doc__ or "").split("\n", 1)[0]


class Refusal(OpenReserveError):
    """The request was refused and changed nothing."""


class BadRequest(Refusal):
    """The request was refused: it does not have the documented form."""


class BodyMissing(BadRequest):
    """The request was not processed: it needs a JSON body and has none."""


class BodyMalformed(BadRequest):
    """The request was not processed: its body is not JSON in UTF-8, or has a duplicate member."""


class BodyInvalid(BadRequest):
    """The request was not processed: fields of its body are missing, unknown or invalid."""


class BodyTooLarge(BadRequest):
    """The request was not processed: its body is too large."""


class ContentTypeUnsupported(BadRequest):
    """The request was not processed: its Content-Type is not application/json."""


class ContentEncodingUnsupported(BadRequest):
    """The request was not processed: its body is compressed or encoded. Send it unencoded."""


class TooManyItems(BadRequest):
    """Nothing was reserved: the request has too many items."""


class IdempotencyKeyMissing(BadRequest):
    """The request was not processed: the Idempotency-Key header is missing."""


class IdempotencyKeyInvalid(BadRequest):
    """The request was not processed: the Idempotency-Key is sent twice, empty or invalid."""


class ConditionInvalid(BadRequest):
    """Nothing was changed: If-Match or If-None-Match is not a list of ETags of this API."""


class QueryInvalid(BadRequest):
    """Nothing was listed: a query parameter is unknown or invalid."""


class NotFound(Refusal):
    """The request was not processed: the object that it names does not exist."""


class RouteNotFound(NotFound):
    """The request was not processed: no route has this path."""


class MethodNotAllowed(NotFound):
    """The request was not processed: this path does not support this method."""


class ResourceNotFound(NotFound):
    """The request was not processed: the resource does not exist."""


class ReservationNotFound(NotFound):
    """The request was not processed: no reservation has this token."""


class EndpointNotFound(NotFound):
    """The request was not processed: no webhook endpoint has this id."""


class IdempotencyKeyReused(Refusal):
    """The request was not processed: the Idempotency-Key was used for a different request."""


class IdempotencyInProgress(Refusal):
    """The request was not processed: a request with this Idempotency-Key is in progress."""


class TtlOutOfRange(Refusal):
    """Nothing was reserved: ttlSeconds is below the minimum or above the maximum."""


class OutOfStock(Refusal):
    """Nothing was reserved: fewer units are available than were requested."""

    by_marker: bool = False
    """Whether a sold-out marker in Redis caused the refusal, without a query to Postgres."""
    short_for_ms: int | None = None
    """Time until the earliest deadline of a live hold on a short resource. None: no live hold."""


class BelowAllocated(Refusal):
    """The stock was not changed: more units are held or committed than the new total."""


class TotalOutOfRange(Refusal):
    """The stock was not changed: the new total exceeds the maximum."""


class VersionMismatch(Refusal):
    """The stock was not changed: If-Match or If-None-Match does not allow its present version."""


class PreconditionFailed(Refusal):
    """The request was not processed: its condition does not match the ETag of the target."""


class HoldExpired(Refusal):
    """The hold was not committed: it expired."""


class AlreadyReleased(Refusal):
    """The hold was not committed: it is already released."""


class AlreadyCommitted(Refusal):
    """The hold was not released: it is already committed."""


class AlreadyCancelled(Refusal):
    """The reservation was not changed: it is already cancelled."""


class Fault(OpenReserveError):
    """The request was not completed: a dependency failed."""


class Contention(Fault):
    """The request was not processed: too many concurrent requests for the same rows. Try again."""


class DatabaseUnavailable(Fault):
    """The request may not have been carried out: Postgres is unavailable. Try again."""


class ServiceUnavailable(Fault):
    """The request may not have been carried out: an AWS service failed. Try again."""
