"""What callers send and what they get: the JSON of the API, its field names and limits."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from openreserve.holds import Reservation, Status
from openreserve.settings import Settings, settings
from openreserve.stock import (
    RESOURCE_ID_LENGTH_MAX,
    TOTAL_STOCK_MAX,
    Event,
    Item,
    Place,
    Resource,
    normalized_prefix,
    normalized_resource_id,
)
from openreserve.webhooks import EVENT_TYPES

PRINTABLE_NOT_BLANK = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
RESOURCE_ID_PATTERN = r"^[^/\x00-\x20\x7f]([^/\x00-\x1f\x7f]*[^/\x00-\x20\x7f])?$"
PREFIX_PATTERN = r"^([^/\x00-\x20\x7f][^/\x00-\x1f\x7f]*)?$"
"""For the OpenAPI document: the part of Python's `isprintable` that every regex engine knows."""
INT64: JsonDict = {"format": "int64"}
"""For the OpenAPI document: generated clients read an integer without a format as 32 bits."""

_PLACE = re.compile(r"\d{1,18}\.\d{1,18}", re.ASCII)
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_IN_WORDS_OF_JSON = {
    "model_type": "Input should be an object",
    "list_type": "Input should be a valid array",
    "uuid_type": "Input should be a string that is a UUID",
}
"""Where pydantic speaks of Python's types."""


def faults(invalid: ValidationError) -> list[dict[str, str]]:
    """Where in the request (RFC 6901) and what is wrong there, without repeating what was sent."""
    return [
        {
            "pointer": "".join(f"/{part}" for part in error["loc"]),
            "message": _IN_WORDS_OF_JSON.get(
                error["type"], error["msg"].removeprefix("Value error, ")
            ),
        }
        for error in invalid.errors(include_url=False, include_input=False)
    ]


def decoded(cursor: str) -> str:
    """The text in a cursor; empty, if there is none in it, or not as this API writes it."""
    try:
        text = urlsafe_b64decode(cursor).decode()
    except ValueError:  # of base64 or of UTF-8
        return ""
    return text if urlsafe_b64encode(text.encode()).decode() == cursor else ""


def _at_most(limit: Callable[[Settings], int]) -> AfterValidator:
    """A limit that each stage may set: looked up when a request comes, not at import."""

    def check(number: int) -> int:
        if number > limit(settings()):
            raise ValueError(f"must be at most {limit(settings())}")
        return number

    return AfterValidator(check)


def _may_be_stored(text: str) -> bool:
    """Whether an id like this may be in Postgres: the rule for ids was less strict once."""
    return 1 <= len(text) <= RESOURCE_ID_LENGTH_MAX and not {"/", "\0"} & set(text)


def _digits(text: object) -> object:
    """A whole number in a query: pydantic would read 1_0, +5 and the digits of any script, too."""
    if isinstance(text, str) and not _DIGITS.fullmatch(text):
        raise ValueError("must be a whole number, in the digits 0 to 9")
    return text


def _flag(text: object) -> object:
    """A truth value in a query, in JSON's words: pydantic would read yes and on, too."""
    if isinstance(text, str) and text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text


def one_of(name: str, *values: str) -> Any:
    """The metadata of a text that has one of these values: an enum, which OpenAPI names so."""
    return Field(json_schema_extra={"title": name, "enum": list(values)})


def _instant(moment: datetime) -> str:
    """RFC 3339, in UTC, to the millisecond: deadlines are exact to it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


ResourceId = Annotated[
    str,
    AfterValidator(normalized_resource_id),
    Field(
        description="1 to 200 printable characters in Unicode's form NFC, without a slash, without "
        "a space at either end; neither `.` nor `..`.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": RESOURCE_ID_LENGTH_MAX,
            "pattern": RESOURCE_ID_PATTERN,
            "not": {"enum": [".", ".."]},
        },
    ),
]
Quantity = Annotated[
    int,
    Field(ge=1, json_schema_extra={"maximum": Settings.quantity_max}),
    _at_most(lambda limits: limits.quantity_max),
]
PageSize = Annotated[
    int,
    Field(ge=1, json_schema_extra={"maximum": Settings.page_size_max}),
    _at_most(lambda limits: limits.page_size_max),
    BeforeValidator(_digits),
]
TtlSeconds = Annotated[
    int,
    Field(
        # Whole numbers out of the documented range get their own error, from Postgres.
        ge=-(2**63),
        le=2**63 - 1,
        json_schema_extra={"minimum": 1, "maximum": Settings.ttl_seconds_max},
    ),
]
InvalidFields = Annotated[
    list[dict[str, str]],
    Field(
        json_schema_extra={
            "items": {
                "title": "InvalidField",
                "description": "A field that is not of its documented form.",
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "Where it is (RFC 6901)."},
                    "message": {"type": "string", "description": "What is wrong, for people."},
                },
                "required": ["pointer", "message"],
            }
        }
    ),
]
"""What `faults` returns."""
Stock = Annotated[int, Field(json_schema_extra={"minimum": 0, **INT64})]
EventTypeText = Annotated[str, one_of("EventType", *EVENT_TYPES)]
Token = Annotated[UUID, Field(strict=False)]  # JSON has no UUIDs but their text
Instant = Annotated[
    datetime,
    PlainSerializer(_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Json(BaseModel):
    """Camel case outside, snake case inside; no field that is not named here; no conversions."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
    )


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


class ResourceBody(Json):
    """A resource and how many units there are of it, in all."""

    resource_id: ResourceId
    total_stock: int = Field(ge=0, le=TOTAL_STOCK_MAX, json_schema_extra=INT64)


class ResourceView(Json):
    """A resource as it stands. totalStock = availableStock + heldStock + committedStock."""

    resource_id: str
    total_stock: Stock
    available_stock: Stock
    held_stock: Stock
    committed_stock: Stock
    version: int = Field(
        description="Counts the changes of totalStock.", json_schema_extra={"minimum": 1, **INT64}
    )
    updated_at: Instant

    @classmethod
    def of(cls, resource: Resource) -> Self:
        """The view of a resource."""
        return cls.model_construct(
            resource_id=resource.resource_id,
            total_stock=resource.total_stock,
            available_stock=resource.available_stock,
            held_stock=resource.held_stock,
            committed_stock=resource.committed_stock,
            version=resource.version,
            updated_at=resource.updated_at,
        )


class ResourceQuery(Json):
    """Which resources to list: those whose ids start with the prefix, from the cursor on."""

    model_config = ConfigDict(strict=False)  # a query parameter is a text

    prefix: Annotated[str, AfterValidator(normalized_prefix)] = Field(
        "",
        description="How the ids begin.",
        json_schema_extra={
            "maxLength": RESOURCE_ID_LENGTH_MAX,
            "pattern": PREFIX_PATTERN,
        },
    )
    cursor: str = Field("", description="`nextCursor` of the page before.")
    limit: PageSize = 50

    @field_validator("cursor")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and not _may_be_stored(decoded(cursor)):
            raise ValueError("is not a cursor that this API gave out")
        return cursor

    @property
    def after(self) -> str:
        """The id of the last resource of the page before; empty: this is the first page."""
        return decoded(self.cursor)


class ResourcePage(Json):
    """Some resources, by id. `nextCursor` leads to those behind them; without it there are none."""

    resources: list[ResourceView]
    next_cursor: str | None = None

    @classmethod
    def of(cls, resources: list[Resource], *, more: bool) -> Self:
        """The view of a page, and the way to the next if there is more."""
        cursor = urlsafe_b64encode(resources[-1].resource_id.encode()).decode() if more else None
        return cls.model_construct(
            resources=[ResourceView.of(resource) for resource in resources], next_cursor=cursor
        )


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
    def place(self) -> Place:
        """Behind which place to begin."""
        if not self.after:
            return Place()
        written_by, _, position = decoded(self.after).partition(".")
        return Place(int(written_by), int(position))


class EventPage(Json):
    """Some events, in an order in which none is ever missed. `cursor` leads to the next ones."""

    events: list[EventView]
    cursor: str

    @classmethod
    def of(cls, events: list[Event], after: Place) -> Self:
        """The view of a page behind a place."""
        last = events[-1].place if events else after
        cursor = urlsafe_b64encode(f"{last.written_by}.{last.position}".encode()).decode()
        return cls.model_construct(events=[EventView.of(event) for event in events], cursor=cursor)


class HealthView(Json):
    """`status` is ok, degraded (slower, but nothing is lost) or unavailable."""

    status: Annotated[str, one_of("HealthStatus", "ok", "degraded", "unavailable")]
    postgres: Annotated[str, one_of("PostgresStatus", "ok", "unavailable")]
    redis: Annotated[str, one_of("RedisStatus", "ok", "unavailable", "not configured")]


class Problem(BaseModel):
    """A problem document (RFC 9457). Members beyond these depend on the `code`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="For programs: it is stable.")
    request_id: str = Field(alias="requestId", description="Names the request in the log.")
