"""Every way in which a request is not carried out. Pure: no clock, no I/O.

Refusal                       the caller is told why, and nothing was changed
├── BadRequest                the request is not of the documented form
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
├── IdempotencyInProgress     ... to a request that is still being answered
├── TtlOutOfRange
├── OutOfStock
├── BelowAllocated
├── TotalOutOfRange
├── VersionMismatch
├── PreconditionFailed        ... of a route that gives out no ETags
├── HoldExpired
├── AlreadyReleased
├── AlreadyCommitted
└── AlreadyCancelled

Fault                         something that the engine needs did not answer; the same call may be
├── Contention                repeated, with the same Idempotency-Key
├── DatabaseUnavailable
└── ServiceUnavailable
"""

from collections.abc import Mapping
from typing import Any


class OpenReserveError(Exception):
    """The request was not carried out."""

    def __init__(self, **details: Any) -> None:
        """Keeps the details, which callers see as members of the problem document."""
        super().__init__(self.sentence())
        self.details: Mapping[str, Any] = details

    @classmethod
    def sentence(cls) -> str:
        """What was not done, and why: the first line of the class's docstring."""
        return (cls.__doc__ or OpenReserveError.__doc__ or "").split("\n", 1)[0]


class Refusal(OpenReserveError):
    """The request was refused and changed nothing."""


class BadRequest(Refusal):
    """The request was not understood."""


class BodyMissing(BadRequest):
    """The request was not read: it needs a JSON body and has none."""


class BodyMalformed(BadRequest):
    """The request was not read: its body is not JSON in UTF-8, or names a member twice."""


class BodyInvalid(BadRequest):
    """The request was not read: fields of its body are missing, unknown or of the wrong form."""


class BodyTooLarge(BadRequest):
    """The request was not read: its body is too large."""


class ContentTypeUnsupported(BadRequest):
    """The request was not read: its Content-Type is not application/json."""


class ContentEncodingUnsupported(BadRequest):
    """The request was not read: its body is compressed or otherwise encoded. Send it as it is."""


class TooManyItems(BadRequest):
    """Nothing was reserved: the reservation names too many items."""


class IdempotencyKeyMissing(BadRequest):
    """Nothing was done: the Idempotency-Key header is missing."""


class IdempotencyKeyInvalid(BadRequest):
    """Nothing was done: the Idempotency-Key is sent twice, empty, too long or not of its form."""


class ConditionInvalid(BadRequest):
    """Nothing was changed: If-Match or If-None-Match is not a list of ETags of this API."""


class QueryInvalid(BadRequest):
    """Nothing was listed: a query parameter is unknown or not of its documented form."""


class NotFound(Refusal):
    """The request was not carried out: what it names does not exist."""


class RouteNotFound(NotFound):
    """The request was not carried out: there is nothing at this path."""


class MethodNotAllowed(NotFound):
    """The request was not carried out: this path does not take this method."""


class ResourceNotFound(NotFound):
    """The request was not carried out: there is no such resource."""


class ReservationNotFound(NotFound):
    """The request was not carried out: there is no reservation with this token."""


class EndpointNotFound(NotFound):
    """The request was not carried out: there is no webhook endpoint with this id."""


class IdempotencyKeyReused(Refusal):
    """Nothing was done: the Idempotency-Key was used before, for another request."""


class IdempotencyInProgress(Refusal):
    """Nothing was done: a request with this Idempotency-Key is still being answered."""


class TtlOutOfRange(Refusal):
    """Nothing was reserved: ttlSeconds is shorter or longer than a hold may last."""


class OutOfStock(Refusal):
    """Nothing was reserved: fewer units are available than were asked for."""

    by_marker: bool = False
    """Whether Redis knew it, and Postgres was not asked."""
    short_for_ms: int | None = None
    """When the first live hold on what is short ends: its units may be had then. None: no hold."""


class BelowAllocated(Refusal):
    """The stock was not changed: more units are held or committed than the new total has."""


class TotalOutOfRange(Refusal):
    """The stock was not changed: no resource may have so many units."""


class VersionMismatch(Refusal):
    """The stock was not changed: its version is not one that If-Match or If-None-Match allows."""


class PreconditionFailed(Refusal):
    """The request was not carried out: what it is about has no ETag that its condition allows."""


class HoldExpired(Refusal):
    """The hold was not committed: it expired."""


class AlreadyReleased(Refusal):
    """The hold was not committed: it was released before."""


class AlreadyCommitted(Refusal):
    """The hold was not released: it was committed before."""


class AlreadyCancelled(Refusal):
    """The reservation was not changed: it was cancelled before."""


class Fault(OpenReserveError):
    """The request was not carried out: something that it needs did not answer."""


class Contention(Fault):
    """The request was not carried out: too many others wanted the same thing. Try again."""


class DatabaseUnavailable(Fault):
    """The request was not carried out, or not answered: Postgres cannot be reached. Try again."""


class ServiceUnavailable(Fault):
    """The request was not carried out, or not answered: a service of AWS failed. Try again."""
