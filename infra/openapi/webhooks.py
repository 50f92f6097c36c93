"""The `webhooks` section: requests that endpoints receive, following Standard Webhooks."""

from typing import Any

from pydantic import Field
from pydantic.alias_generators import to_camel

from infra.openapi.schemas import reference
from openreserve.domain.webhooks import EVENT_TYPES
from openreserve.http.schemas.events import EventView
from openreserve.http.schemas.fields import Instant, Json
from openreserve.runtime.settings import Settings

_ID = "5f8a3f0e-0a0b-4c57-9a0f-3c1f3b9d2a11"
_TIMESTAMP = "2026-11-27T08:00:00.000Z"
_TOKEN = "550e8400-e29b-41d4-a716-446655440000"  # noqa: S105 - an example


class PingEvent(Json):
    """A test event that an operator requested."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    type: str = Field(json_schema_extra={"const": "PING"})
    timestamp: Instant


_SIGNATURE = (
    "`v1,` and the HMAC-SHA256, in base64, of `{id}.{timestamp}.{body}` with the endpoint's "
    "secret. After a rotation there is one signature per secret, separated by spaces."
)
_HEADERS = {
    "webhook-id": ("The `id` of the event, the same in each attempt.", _ID),
    "webhook-timestamp": ("Unix time of this attempt, in seconds.", "1795766400"),
    "webhook-signature": (_SIGNATURE, "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
}
_DESCRIPTIONS = {
    "STOCK_DEPLETED": "The last available unit of the resource was reserved.",
    "STOCK_RESTORED": "A release or an expiry returned units of the resource.",
    "RESERVATION_HELD": "A hold was created.",
    "RESERVATION_COMMITTED": "A hold was committed.",
    "RESERVATION_RELEASED": "A hold was released.",
    "RESERVATION_EXPIRED": "A hold expired.",
    "RESERVATION_CANCELLED": "A committed reservation was cancelled.",
}


def webhooks() -> dict[str, Any]:
    """The webhooks by event type, including the test event."""
    events = {
        kind: _webhook(kind, _DESCRIPTIONS[kind], reference(EventView), _example(kind))
        for kind in EVENT_TYPES
    }
    ping = {"id": _ID, "type": "PING", "timestamp": _TIMESTAMP}
    return events | {
        "PING": _webhook(
            "PING", "A test event that pingEndpoint sends.", reference(PingEvent), ping
        )
    }


def _example(kind: str) -> dict[str, Any]:
    is_stock_event = kind.startswith("STOCK_")
    return {
        "id": _ID,
        "type": kind,
        "resourceId": "hotel-room-101",
        "value": 1 if kind != "STOCK_DEPLETED" else 0,
        "timestamp": _TIMESTAMP,
        **({"sequence": 7} if is_stock_event else {}),
        "tokens": [_TOKEN],
    }


def _webhook(
    kind: str, description: str, schema: dict[str, Any], example: dict[str, Any]
) -> dict[str, Any]:
    attempts = len(Settings().webhook_schedule_seconds) + 1
    return {
        "post": {
            "operationId": to_camel(f"receive_{kind.lower()}"),
            "tags": ["Deliveries"],
            "summary": description,
            "description": "Delivered at least once to each subscribed endpoint, following "
            "Standard Webhooks. Verify the signature, and ignore an id that was already processed.",
            "parameters": [_header(name) for name in _HEADERS],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema, "example": example}},
            },
            "responses": {
                "2XX": {"description": "The event was received."},
                "410": {"description": "The endpoint no longer accepts events, and is disabled."},
                "default": {
                    "description": f"The delivery is retried, {attempts} attempts in total, not "
                    "before Retry-After. After the last attempt it becomes a dead letter."
                },
            },
            "security": [],
        }
    }


def _header(name: str) -> dict[str, Any]:
    description, example = _HEADERS[name]
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }
