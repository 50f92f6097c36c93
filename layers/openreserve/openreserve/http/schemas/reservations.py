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
from openreserve.domain.resources import Item
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
        # Integers outside the documented range have their own error: ttl_out_of_range.
        ge=-(2**63),
        le=2**63 - 1,
        json_schema_extra={"minimum": 1, "maximum": Settings.ttl_seconds_max},
    ),
]


class ItemBody(Json):
    """A quantity of one resource."""

    resource_id: ResourceId
    quantity: Quantity


class ItemView(Json):
    """A quantity of one resource. Items of the request for the same resource are added up."""

    resource_id: str
    quantity: Annotated[int, Field(json_schema_extra={"minimum": 1})]


def _two_forms(schema: dict[str, Any]) -> None:
    """Describe each form of the body as a separate object, so that clients generate a type each."""
    fields = schema.pop("properties")
    forms = {
        "ReserveResource": ("A quantity of one resource.", ["resourceId", "quantity"]),
        "ReserveItems": ("Quantities of several resources: all or nothing.", ["items"]),
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
                option
                for option in form["properties"][field].pop("anyOf")
                if option["type"] != "null"
            )


class ReserveBody(Json):
    """Either `resourceId` and `quantity`, or `items`. Items of the same resource are added up."""

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
        description=f"Duration of the hold: 1 to {Settings.ttl_seconds_max:,} seconds. Default: "
        f"{Settings.ttl_seconds_default}.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        single = (self.resource_id is None, self.quantity is None)
        if single == (True, True) and self.items is None:
            raise ValueError("needs either resourceId and quantity, or items")
        if self.items is None and single != (False, False):
            raise ValueError("needs both resourceId and quantity")
        if self.items is not None and single != (True, True):
            raise ValueError("takes either resourceId and quantity, or items, not both")
        return self

    def lines(self) -> list[Item]:
        """The requested items, in the order of the request."""
        if self.resource_id is not None and self.quantity is not None:
            return [Item(self.resource_id, self.quantity)]
        return [Item(line.resource_id, line.quantity) for line in self.items or ()]


class CommitBody(Json):
    """The hold to commit. `ifExpired: reacquire` takes its stock again if the hold has expired."""

    token: Token
    if_expired: Annotated[Literal["refuse", "reacquire"], Field(title="IfExpired")] = Field(
        "refuse",
        description="`refuse`, the default: an expired hold is not committed. `reacquire`: the "
        "stock of an expired hold is taken again, if there is enough.",
    )


class ReleaseBody(Json):
    """The hold to release."""

    token: Token


class ReservationView(Json):
    """A reservation. `resourceId` and `quantity` are present if it has exactly one item."""

    token: UUID
    resource_id: str | None = None
    quantity: int | None = None
    items: Annotated[list[ItemView], Field(json_schema_extra={"minItems": 1})]
    status: Status
    expires_at: Instant
    reacquired: bool | None = Field(
        None, description="`true`: the hold had expired, and the commit took its stock again."
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
    """Which reservations to list: by resource, by status, after the cursor."""

    model_config = ConfigDict(strict=False)  # a query parameter is a string

    resource_id: ResourceId | None = None
    status: Status | None = None
    cursor: str = Field("", description="`nextCursor` of the previous page.")
    limit: PageSize = 50

    @field_validator("cursor")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and _parsed(decoded(cursor)) is None:
            raise ValueError("is not a cursor that this API issued")
        return cursor

    @property
    def after(self) -> ReservationCursor:
        """The decoded cursor."""
        return _parsed(decoded(self.cursor)) or ReservationCursor()


class ReservationPage(Json):
    """A page of reservations: first those that hold stock, by deadline.

    `nextCursor` continues after it; it is absent on the last page. A page may have fewer rows than
    `limit`, even none, and still have a next page.
    """

    reservations: list[ReservationView]
    next_cursor: str | None = None

    @classmethod
    def of(cls, reservations: Sequence[Reservation], following: ReservationCursor | None) -> Self:
        """The view of a page, with the cursor of the following one, if there is one."""
        return cls.model_construct(
            reservations=[ReservationView.of(reservation) for reservation in reservations],
            next_cursor=None if following is None else _encoded(following),
        )


def _encoded(cursor: ReservationCursor) -> str:
    if cursor.expires_at is None:
        text = f"settled {cursor.token}"
    else:
        # In milliseconds, the precision of deadlines.
        text = f"held {(cursor.expires_at - _EPOCH) // timedelta(milliseconds=1)} {cursor.token}"
    return urlsafe_b64encode(text.encode()).decode()


def _parsed(text: str) -> ReservationCursor | None:
    try:
        if match := _HELD.fullmatch(text):
            moment = _EPOCH + timedelta(milliseconds=int(match[1]))
            return ReservationCursor(UUID(match[2]), moment)
        if match := _SETTLED.fullmatch(text):
            return ReservationCursor(UUID(match[1]), settled=SETTLED.settled)
    except (ValueError, OverflowError):
        pass
    return None
