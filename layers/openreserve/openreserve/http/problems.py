"""The HTTP status and code of each error, and the problem documents (RFC 9457)."""

import json
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from openreserve.domain import errors
from openreserve.domain.errors import OpenReserveError

STATUSES: Mapping[type[OpenReserveError], tuple[int, str]] = {
    errors.BodyMissing: (400, "body_missing"),
    errors.BodyMalformed: (400, "body_malformed"),
    errors.BodyInvalid: (400, "body_invalid"),
    errors.TooManyItems: (400, "too_many_items"),
    errors.IdempotencyKeyMissing: (400, "idempotency_key_missing"),
    errors.IdempotencyKeyInvalid: (400, "idempotency_key_invalid"),
    errors.ConditionInvalid: (400, "condition_invalid"),
    errors.QueryInvalid: (400, "query_invalid"),
    errors.RouteNotFound: (404, "route_not_found"),
    errors.ResourceNotFound: (404, "resource_not_found"),
    errors.ReservationNotFound: (404, "reservation_not_found"),
    errors.EndpointNotFound: (404, "endpoint_not_found"),
    errors.MethodNotAllowed: (405, "method_not_allowed"),
    errors.IdempotencyInProgress: (409, "idempotency_in_progress"),
    errors.OutOfStock: (409, "out_of_stock"),
    errors.BelowAllocated: (409, "below_allocated"),
    errors.AlreadyReleased: (409, "already_released"),
    errors.AlreadyCommitted: (409, "already_committed"),
    errors.AlreadyCancelled: (409, "already_cancelled"),
    errors.HoldExpired: (410, "hold_expired"),
    errors.VersionMismatch: (412, "version_mismatch"),
    errors.PreconditionFailed: (412, "precondition_failed"),
    errors.BodyTooLarge: (413, "body_too_large"),
    errors.ContentTypeUnsupported: (415, "content_type_unsupported"),
    errors.ContentEncodingUnsupported: (415, "content_encoding_unsupported"),
    errors.IdempotencyKeyReused: (422, "idempotency_key_reused"),
    errors.TtlOutOfRange: (422, "ttl_out_of_range"),
    errors.TotalOutOfRange: (422, "total_out_of_range"),
    errors.Contention: (503, "contention"),
    errors.DatabaseUnavailable: (503, "database_unavailable"),
    errors.ServiceUnavailable: (503, "service_unavailable"),
}

UNHANDLED: tuple[int, str] = (500, "internal_error")

RETRY_AFTER_SECONDS: Mapping[type[OpenReserveError], int] = {
    errors.IdempotencyInProgress: 1,
    errors.Contention: 1,
    errors.DatabaseUnavailable: 1,
    errors.ServiceUnavailable: 1,
}
"""The errors that a repeat of the same request may avoid."""


def problem(error: OpenReserveError | None, instance: str, request_id: str) -> tuple[int, str, str]:
    """Status, code and problem document of an error; None: an unhandled exception.

    `instance` is a percent-encoded reference to the URL of the request.
    """
    status, code = UNHANDLED if error is None else STATUSES[type(error)]
    document: dict[str, Any] = {
        "type": f"urn:openreserve:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.sentence() if error else "The request failed. It is safe to repeat it.",
        "instance": instance,
        "code": code,
        "requestId": request_id,
    }
    details = error.details if error else {}
    assert not details.keys() & document.keys(), "a detail must not replace a standard member"
    document |= details
    return status, code, json.dumps(document, separators=(",", ":"), default=_text)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)
