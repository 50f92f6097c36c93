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


def _known_as_url(text: str) -> str:
    fault = url_fault(text, development=bool(settings().webhook_development))
    if fault:
        raise ValueError(fault)
    return text


def _known_as_event_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(f"must be one of {', '.join(EVENT_TYPES)}")
    return text


EndpointId = Annotated[str, Field(pattern=f"^{ENDPOINT_ID.pattern}$")]
EventType = Annotated[EventTypeText, AfterValidator(_known_as_event_type)]


class EndpointBody(Json):
    """A URL that wants events: of these types, or of all if none is named."""

    endpoint_id: EndpointId
    url: Annotated[
        str,
        Field(
            max_length=URL_LENGTH_MAX,
            description="Absolute, in ASCII, without a user and a fragment. With "
            "WebhookDevelopment=1 also http.",
            json_schema_extra={"format": "uri", "pattern": "^https://"},
        ),
        AfterValidator(_known_as_url),
    ]
    events: list[EventType] = Field(
        default_factory=list, description="The types that it wants. None, or left out: all."
    )


class EndpointView(Json):
    """An endpoint. Its `secret` is shown when it is made, and never again."""

    endpoint_id: str
    url: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    events: list[EventTypeText]
    disabled: str | None = Field(None, description="Since when and why it gets nothing.")
    secret: str | None = Field(None, description="What deliveries are signed with.")

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
    """What became of a test event: delivered, or why not."""

    id: Annotated[str, Field(json_schema_extra={"format": "uuid"})]
    delivered: bool
    status: int | None = Field(None, description="The HTTP status that the endpoint answered.")
    reason: str | None = Field(None, description="Why the endpoint was not reached.")
    duration_ms: float | None = Field(None, description="How long it took to answer.")


class DeadLetterQuery(Json):
    """How many dead letters to look at."""

    model_config = ConfigDict(strict=False)  # a query parameter is a text

    limit: PageSize = 50


class DeadLetterView(Json):
    """An event that was given up for an endpoint; without one, before it was sent to any.

    `content` instead of `event`: what is no event.
    """

    endpoint_id: str | None = None
    attempts: int = Field(description="Attempts to deliver it that were made.")
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
    """Some dead letters, in no order."""

    dead_letters: list[DeadLetterView]


class ResendBody(Json):
    """Whose dead letters to send again: of one endpoint, or of all."""

    endpoint_id: EndpointId | None = None


class ResentView(Json):
    """How many dead letters were sent again."""

    resent: int


def ping_content(event_id: str, moment: datetime) -> str:
    """A test event: it has the members of a real one that every event has."""
    timestamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"id": event_id, "type": "PING", "timestamp": timestamp})


def _event(content: str) -> EventView | None:
    try:
        return EventView.model_validate_json(content)
    except ValueError:
        return None
