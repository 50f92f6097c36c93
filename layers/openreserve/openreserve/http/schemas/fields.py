"""The base model and the field types that all request and response bodies share."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
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
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from openreserve.domain.resources import (
    RESOURCE_ID_LENGTH_MAX,
    normalized_resource_id,
)
from openreserve.domain.webhooks import EVENT_TYPES
from openreserve.runtime.settings import Settings, settings

PRINTABLE_NOT_BLANK = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
RESOURCE_ID_PATTERN = r"^[^/\x00-\x20\x7f]([^/\x00-\x1f\x7f]*[^/\x00-\x20\x7f])?$"
PREFIX_PATTERN = r"^([^/\x00-\x20\x7f][^/\x00-\x1f\x7f]*)?$"
"""For the OpenAPI document: the part of Python's `isprintable` that every regex engine knows."""
INT64: JsonDict = {"format": "int64"}
"""For the OpenAPI document: generated clients read an integer without a format as 32 bits."""
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
