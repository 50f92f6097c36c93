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
"""For the OpenAPI document: the part of Python's `isprintable` that every regex engine supports."""
INT64: JsonDict = {"format": "int64"}
"""For the OpenAPI document: generated clients use 32 bits for an integer without a format."""
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_JSON_MESSAGES = {
    "model_type": "Input should be an object",
    "list_type": "Input should be a valid array",
    "uuid_type": "Input should be a string that is a UUID",
}
"""Replacements for pydantic's messages that name Python types."""


def invalid_fields(error: ValidationError) -> list[dict[str, str]]:
    """The JSON pointer (RFC 6901) and a message for each invalid field, without its value."""
    return [
        {
            "pointer": "".join(f"/{part}" for part in detail["loc"]),
            "message": _JSON_MESSAGES.get(
                detail["type"], detail["msg"].removeprefix("Value error, ")
            ),
        }
        for detail in error.errors(include_url=False, include_input=False)
    ]


def decoded(cursor: str) -> str:
    """The text in a cursor; empty if this API did not issue it."""
    try:
        text = urlsafe_b64decode(cursor).decode()
    except ValueError:  # of base64 or of UTF-8
        return ""
    return text if urlsafe_b64encode(text.encode()).decode() == cursor else ""


def _at_most(limit: Callable[[Settings], int]) -> AfterValidator:
    """A limit that is a setting: read when a request is validated, not at import."""

    def check(number: int) -> int:
        if number > limit(settings()):
            raise ValueError(f"must be at most {limit(settings())}")
        return number

    return AfterValidator(check)


def is_storable_id(text: str) -> bool:
    """Whether Postgres may have such an id: the rule for ids was less strict in the past."""
    return 1 <= len(text) <= RESOURCE_ID_LENGTH_MAX and not {"/", "\0"} & set(text)


def _digits(text: object) -> object:
    """A number in a query: pydantic would also accept 1_0, +5 and the digits of any script."""
    if isinstance(text, str) and not _DIGITS.fullmatch(text):
        raise ValueError("must be a whole number, in the digits 0 to 9")
    return text


def parsed_flag(text: object) -> object:
    """A boolean in a query: pydantic would also accept yes and on."""
    if isinstance(text, str) and text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text


def one_of(name: str, *values: str) -> Any:
    """The metadata of a string with these values: an enum named `name` in OpenAPI."""
    return Field(json_schema_extra={"title": name, "enum": list(values)})


def _instant(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds, the precision of deadlines."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


ResourceId = Annotated[
    str,
    AfterValidator(normalized_resource_id),
    Field(
        description="1 to 200 printable characters in Unicode normalization form NFC, without a "
        "slash and without leading or trailing spaces; not `.` or `..`.",
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
                "description": "An invalid field.",
                "type": "object",
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON pointer to the field (RFC 6901).",
                    },
                    "message": {"type": "string", "description": "The error, for people."},
                },
                "required": ["pointer", "message"],
            }
        }
    ),
]
"""The result of `invalid_fields`."""
Stock = Annotated[int, Field(json_schema_extra={"minimum": 0, **INT64})]
EventTypeText = Annotated[str, one_of("EventType", *EVENT_TYPES)]
Token = Annotated[UUID, Field(strict=False)]  # in JSON a UUID is a string
Instant = Annotated[
    datetime,
    PlainSerializer(_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Json(BaseModel):
    """The base model: camel case in JSON, snake case in Python; strict types; no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
    )
