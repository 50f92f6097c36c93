"""Request and response bodies about webhook endpoints and dead letters."""

import json
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field

from openreserve.domain.webhooks import ENDPOINT_ID, EVENT_TYPES, DeadLetter, Endpoint, url_fault
from openreserve.http.schemas.events import EventView
from openreserve.http.schemas.fields import EventTypeText, Instant, Json, PageSize
from openreserve.runtime.settings import settings

URL_LENGTH_MAX = 2_000


def _checked_url(text: str) -> str:
    fault = url_fault(text, development=bool(settings().webhook_development))
    if fault:
        raise ValueError(fault)
    return text


def _checked_event_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(f"must be one of {', '.join(EVENT_TYPES)}")
    return text


EndpointId = Annotated[str, Field(pattern=f"^{ENDPOINT_ID.pattern}$")]
EventType = Annotated[EventTypeText, AfterValidator(_checked_event_type)]


class EndpointBody(Json):
    """A URL to subscribe to events of the given types, or of all types."""

    endpoint_id: EndpointId
    url: Annotated[
        str,
        Field(
            max_length=URL_LENGTH_MAX,
            description="An absolute https URL in ASCII, without user and fragment. With "
            "WebhookDevelopment=1 also http.",
            json_schema_extra={"format": "uri", "pattern": "^https://"},
        ),
        AfterValidator(_checked_url),
    ]
    events: list[EventType] = Field(
        default_factory=list, description="The types of the subscription. Empty or absent: all."
    )


class EndpointView(Json):
    """An endpoint. Its `secret` is present only in the response that creates it."""

    endpoint_id: str
    url: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    events: list[EventTypeText]
    disabled: str | None = Field(None, description="When and why the endpoint was disabled.")
    secret: str | None = Field(None, description="The signing secret of deliveries.")

    @classmethod
    def of(cls, endpoint: Endpoint, secret: str | None = None) -> Self:
        """The view of an endpoint."""
        return cls.model_construct(
            endpoint_id=endpoint.endpoint_id,
            url=endpoint.url,
            events=list(endpoint.events),
            disabled=endpoint.disabled or None,
            secret=secret,
        )


class EndpointList(Json):
    """All endpoints, by id."""

    webhooks: list[EndpointView]


class PingView(Json):
    """The result of the delivery of a test event."""

    id: Annotated[str, Field(json_schema_extra={"format": "uuid"})]
    delivered: bool
    status: int | None = Field(None, description="The HTTP status of the endpoint's response.")
    reason: str | None = Field(None, description="Why the endpoint was not reached.")
    duration_ms: float | None = Field(None, description="The response time of the endpoint.")


class DeadLetterQuery(Json):
    """How many dead letters to list."""

    model_config = ConfigDict(strict=False)  # a query parameter is a string

    limit: PageSize = 50


class DeadLetterView(Json):
    """An event that could not be delivered; without `endpointId`, to any endpoint.

    `content` replaces `event` if the message is not an event.
    """

    endpoint_id: str | None = None
    attempts: int = Field(description="The number of delivery attempts.")
    sent_at: Instant = Field(description="When it became a dead letter.")
    event: EventView | None = None
    content: str | None = None

    @classmethod
    def of(cls, dead: DeadLetter) -> Self:
        """The view of a dead letter."""
        event = _event(dead.message.content)
        return cls.model_construct(
            endpoint_id=dead.message.endpoint_id or None,
            attempts=dead.attempts,
            sent_at=datetime.fromtimestamp(dead.sent_at_ms / 1_000, UTC),
            event=event,
            content=None if event else dead.message.content,
        )


class DeadLetterList(Json):
    """A sample of the dead letters, in no particular order."""

    dead_letters: list[DeadLetterView]


class ResendBody(Json):
    """The dead letters to send again: those of one endpoint, or all."""

    endpoint_id: EndpointId | None = None


class ResentView(Json):
    """The number of dead letters that were sent again."""

    resent: int


def ping_content(event_id: str, moment: datetime) -> str:
    """A test event, with the members that all events have."""
    timestamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"id": event_id, "type": "PING", "timestamp": timestamp})


def _event(content: str) -> EventView | None:
    try:
        return EventView.model_validate_json(content)
    except ValueError:
        return None
