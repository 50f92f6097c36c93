"""Request and response bodies about events."""

import re
from base64 import urlsafe_b64encode
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from openreserve.domain.events import Event, EventCursor
from openreserve.http.schemas.fields import (
    INT64,
    EventTypeText,
    Instant,
    Json,
    PageSize,
    _flag,
    decoded,
)

_PLACE = re.compile(r"\d{1,18}\.\d{1,18}", re.ASCII)


class EventView(Json):
    """An event. It may be delivered more than once, each time with the same `id`."""

    id: UUID
    type: EventTypeText
    resource_id: str
    value: int = Field(
        description="Units that are available then; or of the reservation's item.",
        json_schema_extra={"minimum": 0, **INT64},
    )
    timestamp: Instant
    sequence: Annotated[int, Field(json_schema_extra=INT64)] | None = Field(
        None, description="Counts the stock events of the resource, without a gap."
    )
    tokens: list[UUID] = Field(description="The reservations concerned.")

    @classmethod
    def of(cls, event: Event) -> Self:
        """The view of an event."""
        return cls.model_construct(
            id=event.event_id,
            type=event.type,
            resource_id=event.resource_id,
            value=event.value,
            timestamp=event.created_at,
            sequence=event.sequence,
            tokens=list(event.tokens),
        )


class EventQuery(Json):
    """Which events to list: those behind the cursor `after`, the oldest first."""

    model_config = ConfigDict(strict=False)  # a query parameter is a text

    after: str = Field("", description="`cursor` of the page before; empty: from the first event.")
    newest: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False, description="The last `limit` events there are."
    )
    limit: PageSize = 50

    @field_validator("after")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and not _PLACE.fullmatch(decoded(cursor)):
            raise ValueError("is not a cursor that this API gave out")
        return cursor

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.newest and self.after:
            raise ValueError("takes either after or newest, not both")
        return self

    @property
    def place(self) -> EventCursor:
        """Behind which place to begin."""
        if not self.after:
            return EventCursor()
        written_by, _, position = decoded(self.after).partition(".")
        return EventCursor(int(written_by), int(position))


class EventPage(Json):
    """Some events, in an order in which none is ever missed. `cursor` leads to the next ones."""

    events: list[EventView]
    cursor: str

    @classmethod
    def of(cls, events: list[Event], after: EventCursor) -> Self:
        """The view of a page behind a place."""
        last = events[-1].cursor if events else after
        cursor = urlsafe_b64encode(f"{last.written_by}.{last.position}".encode()).decode()
        return cls.model_construct(events=[EventView.of(event) for event in events], cursor=cursor)
