"""Request and response bodies about reservations."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from openreserve.domain.reservations import SETTLED, Reservation, ReservationCursor, Status
from openreserve.domain.resources import (
    Item,
)
from openreserve.http.schemas.fields import (
    Instant,
    Json,
    PageSize,
    Quantity,
    ResourceId,
    Token,
    decoded,
)
from openreserve.runtime.settings import Settings

TtlSeconds = Annotated[
    int,
    Field(
        # Whole numbers out of the documented range get their own error, from Postgres.
        ge=-(2**63),
        le=2**63 - 1,
        json_schema_extra={"minimum": 1, "maximum": Settings.ttl_seconds_max},
    ),
]


class ItemBody(Json):
    """Some units of one resource."""

    resource_id: ResourceId
    quantity: Quantity


class ItemView(Json):
    """Some units of one resource. Lines of the request for one resource are added up."""

    resource_id: str
    quantity: Annotated[int, Field(json_schema_extra={"minimum": 1})]


def _two_forms(schema: dict[str, Any]) -> None:
    """Describe each form of reserve as an object of its own, of which clients generate a type."""
    fields = schema.pop("properties")
    forms = {
        "ReserveResource": ("Some units of one resource.", ["resourceId", "quantity"]),
        "ReserveItems": ("Some units of each of several resources: all, or none.", ["items"]),
    }
    schema["oneOf"] = [
        {
            "title": name,
            "description": description,
            "type": "object",
            "properties": {field: fields[field] for field in (*required, "ttlSeconds")},
            "required": required,
            "additionalProperties": schema["additionalProperties"],
        }
        for name, (description, required) in forms.items()
    ]
    del schema["type"], schema["additionalProperties"]
    for form in schema["oneOf"]:
        for field in form["required"]:
            (form["properties"][field],) = (
                kind for kind in form["properties"][field].pop("anyOf") if kind["type"] != "null"
            )


class ReserveBody(Json):
    """Either `resourceId` and `quantity`, or `items`. Lines of one resource are added up."""

    model_config = ConfigDict(json_schema_extra=_two_forms)

    resource_id: ResourceId | None = None
    quantity: Quantity | None = None
    items: (
        Annotated[
            list[ItemBody],
            Field(min_length=1, json_schema_extra={"maxItems": Settings.items_max}),
        ]
        | None
    ) = None
    ttl_seconds: TtlSeconds | None = Field(
        None,
        description=f"How long the hold lasts: 1 to {Settings.ttl_seconds_max:,} seconds; "
        f"{Settings.ttl_seconds_default} if left out.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        single = (self.resource_id is None, self.quantity is None)
        if single == (True, True) and self.items is None:
            raise ValueError("names nothing to reserve: give resourceId and quantity, or items")
        if self.items is None and single != (False, False):
            raise ValueError("needs both resourceId and quantity")
        if self.items is not None and single != (True, True):
            raise ValueError("takes either resourceId and quantity, or items, not both")
        return self

    def lines(self) -> list[Item]:
        """What is asked for, line by line."""
        if self.resource_id is not None and self.quantity is not None:
            return [Item(self.resource_id, self.quantity)]
        return [Item(line.resource_id, line.quantity) for line in self.items or ()]


class CommitBody(Json):
    """The hold to settle; `ifExpired: reacquire` takes its stock anew if the hold is over."""

    token: Token
    if_expired: Annotated[Literal["refuse", "reacquire"], Field(title="IfExpired")] = Field(
        "refuse",
        description="`refuse`, also if left out: a hold that is over stays over. `reacquire`: its "
        "stock is taken anew, if there is enough.",
    )


class ReleaseBody(Json):
    """The hold to give back."""

    token: Token


class ReservationView(Json):
    """A reservation. `resourceId` and `quantity` repeat its item when it has just one."""

    token: UUID
    resource_id: str | None = None
    quantity: int | None = None
    items: Annotated[list[ItemView], Field(json_schema_extra={"minItems": 1})]
    status: Status
    expires_at: Instant
    reacquired: bool | None = Field(
        None, description="true: the hold was over, and its stock was taken anew for the commit."
    )

    @classmethod
    def of(cls, reservation: Reservation) -> Self:
        """The view of a reservation."""
        only = reservation.items[0] if len(reservation.items) == 1 else None
        return cls.model_construct(
            token=reservation.token,
            resource_id=only and only.resource_id,
            quantity=only and only.quantity,
            items=[
                ItemView.model_construct(resource_id=item.resource_id, quantity=item.quantity)
                for item in reservation.items
            ],
            status=reservation.status,
            expires_at=reservation.expires_at,
            reacquired=reservation.reacquired or None,
        )


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_HELD = re.compile(r"held (\d{1,15}) ([0-9a-f-]{36})", re.ASCII)
_SETTLED = re.compile(r"settled ([0-9a-f-]{36})", re.ASCII)


class ReservationQuery(Json):
    """Which reservations to list: of a resource, with a status, from the cursor on."""

    model_config = ConfigDict(strict=False)  # a query parameter is a text

    resource_id: ResourceId | None = None
    status: Status | None = None
    cursor: str = Field("", description="`nextCursor` of the page before.")
    limit: PageSize = 50

    @field_validator("cursor")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and _place(decoded(cursor)) is None:
            raise ValueError("is not a cursor that this API gave out")
        return cursor

    @property
    def after(self) -> ReservationCursor:
        """Behind which place to begin."""
        return _place(decoded(self.cursor)) or ReservationCursor()


class ReservationPage(Json):
    """Some reservations: those that hold stock first, by deadline.

    `nextCursor` leads to those behind them; without it there are none. A page can have fewer rows
    than asked for, also none, and yet lead on.
    """

    reservations: list[ReservationView]
    next_cursor: str | None = None

    @classmethod
    def of(cls, reservations: Sequence[Reservation], next_place: ReservationCursor | None) -> Self:
        """The view of a page, and the way to the next if there is more."""
        return cls.model_construct(
            reservations=[ReservationView.of(reservation) for reservation in reservations],
            next_cursor=None if next_place is None else _cursor(next_place),
        )


def _cursor(place: ReservationCursor) -> str:
    if place.expires_at is None:
        text = f"settled {place.token}"
    else:
        # In whole milliseconds, which deadlines are exact to.
        text = f"held {(place.expires_at - _EPOCH) // timedelta(milliseconds=1)} {place.token}"
    return urlsafe_b64encode(text.encode()).decode()


def _place(text: str) -> ReservationCursor | None:
    try:
        if found := _HELD.fullmatch(text):
            moment = _EPOCH + timedelta(milliseconds=int(found[1]))
            return ReservationCursor(UUID(found[2]), moment)
        if found := _SETTLED.fullmatch(text):
            return ReservationCursor(UUID(found[1]), settled=SETTLED.settled)
    except (ValueError, OverflowError):
        pass
    return None
