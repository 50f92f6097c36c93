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
    decoded,
    parsed_flag,
)

_CURSOR = re.compile(r"\d{1,18}\.\d{1,18}", re.ASCII)


class EventView(Json):
    """An event. It may be delivered more than once, each time with the same `id`."""

    id: UUID
    type: EventTypeText
    resource_id: str
    value: int = Field(
        description="Stock event: the units available after it. Reservation event: the quantity of "
        "the item.",
        json_schema_extra={"minimum": 0, **INT64},
    )
    timestamp: Instant
    sequence: Annotated[int, Field(json_schema_extra=INT64)] | None = Field(
        None, description="Counts the stock events of the resource without gaps."
    )
    tokens: list[UUID] = Field(description="The reservations that caused the event.")

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
    """Which events to list: those after the cursor `after`, the oldest first."""

    model_config = ConfigDict(strict=False)  # a query parameter is a string

    after: str = Field(
        "", description="`cursor` of the previous page; empty: start at the first event."
    )
    newest: Annotated[bool, BeforeValidator(parsed_flag)] = Field(
        default=False, description="`true`: the newest `limit` events."
    )
    limit: PageSize = 50

    @field_validator("after")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and not _CURSOR.fullmatch(decoded(cursor)):
            raise ValueError("is not a cursor that this API issued")
        return cursor

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.newest and self.after:
            raise ValueError("takes either after or newest, not both")
        return self

    @property
    def place(self) -> EventCursor:
        """The decoded cursor."""
        if not self.after:
            return EventCursor()
        written_by, _, position = decoded(self.after).partition(".")
        return EventCursor(int(written_by), int(position))


class EventPage(Json):
    """A page of events, in an order that never misses one. `cursor` continues after it."""

    events: list[EventView]
    cursor: str

    @classmethod
    def of(cls, events: list[Event], after: EventCursor) -> Self:
        """The view of a page after a cursor."""
        last = events[-1].cursor if events else after
        cursor = urlsafe_b64encode(f"{last.written_by}.{last.position}".encode()).decode()
        return cls.model_construct(events=[EventView.of(event) for event in events], cursor=cursor)
