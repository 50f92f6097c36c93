"""What operators send and what they get: batches, adjustments, lists of reservations."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from openreserve.holds import SETTLED, Listed, Reservation, Status
from openreserve.settings import Settings, settings
from openreserve.stock import TOTAL_STOCK_MAX, Adjustment, Total
from openreserve.views import (
    INT64,
    PRINTABLE_NOT_BLANK,
    Instant,
    InvalidFields,
    Json,
    PageSize,
    ReservationView,
    ResourceBody,
    ResourceId,
    Stock,
    decoded,
    faults,
    one_of,
)

REASON_LENGTH_MAX = 500

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_HELD = re.compile(r"held (\d{1,15}) ([0-9a-f-]{36})", re.ASCII)
_SETTLED = re.compile(r"settled ([0-9a-f-]{36})", re.ASCII)


def _not_too_many(rows: list[Any]) -> list[Any]:
    if len(rows) > settings().batch_rows_max:
        raise ValueError(f"must have at most {settings().batch_rows_max} rows")
    return rows


def _not_zero(difference: int) -> int:
    if difference == 0:
        raise ValueError("must not be zero")
    return difference


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable, and not blank")
    return text


class _Rows:
    """Rows are validated one by one, so that a wrong one spoils no other; OpenAPI has the model."""

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "array",
            "items": handler(ResourceBody.__pydantic_core_schema__),
            "minItems": 1,
            "maxItems": Settings.batch_rows_max,
        }


class BatchBody(Json):
    """Resources and how many units there are of each. A row that is wrong spoils no other."""

    resources: Annotated[
        list[Any],
        Field(min_length=1),
        AfterValidator(_not_too_many),
        _Rows(),
    ]

    def totals(self) -> list[Total | ValidationError]:
        """What each row asks for, or what is wrong with it."""
        return [_total(row) for row in self.resources]


def _total(row: Any) -> Total | ValidationError:
    try:
        body = ResourceBody.model_validate(row)
    except ValidationError as invalid:
        return invalid
    return Total(body.resource_id, body.total_stock)


class RowView(Json):
    """What became of a row: `created`, `changed`, `unchanged`, or the code of its refusal."""

    resource_id: str | None = None
    outcome: Annotated[
        str,
        one_of("RowOutcome", "created", "changed", "unchanged", "below_allocated", "body_invalid"),
    ]
    allocated_stock: Stock | None = Field(
        None, description="With `below_allocated`: units that are held or committed."
    )
    errors: InvalidFields | None = Field(
        None, description="With `body_invalid`: where in the row (`pointer`) and what is wrong."
    )


class BatchView(Json):
    """What became of each row, in the order of the request."""

    results: list[RowView]

    @classmethod
    def of(
        cls,
        rows: Sequence[Total | ValidationError],
        outcomes: Sequence[tuple[str, int | None]],
    ) -> Self:
        """The view of rows and of the outcomes of those that could be tried."""
        tried = iter(outcomes)
        return cls.model_construct(
            results=[
                RowView.model_construct(outcome="body_invalid", errors=faults(row))
                if isinstance(row, ValidationError)
                else _tried(row, *next(tried))
                for row in rows
            ]
        )


def _tried(row: Total, outcome: str, allocated: int | None) -> RowView:
    return RowView.model_construct(
        resource_id=row.resource_id, outcome=outcome, allocated_stock=allocated
    )


class AdjustmentBody(Json):
    """By how many units to move the total of a resource, up or down, and why."""

    resource_id: ResourceId
    difference: Annotated[
        int,
        Field(
            ge=-TOTAL_STOCK_MAX,
            le=TOTAL_STOCK_MAX,
            json_schema_extra={"not": {"enum": [0]}, **INT64},
        ),
        AfterValidator(_not_zero),
    ]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=REASON_LENGTH_MAX,
            description="Printable, and not blank.",
            json_schema_extra={"pattern": PRINTABLE_NOT_BLANK},
        ),
        AfterValidator(_printable),
    ]


class AdjustmentView(Json):
    """A total that was moved. `totalStock` is what it was then."""

    resource_id: str
    difference: Annotated[int, Field(json_schema_extra=INT64)]
    reason: str
    total_stock: Stock
    created_at: Instant

    @classmethod
    def of(cls, adjustment: Adjustment) -> Self:
        """The view of an adjustment."""
        return cls.model_construct(
            resource_id=adjustment.resource_id,
            difference=adjustment.difference,
            reason=adjustment.reason,
            total_stock=adjustment.total_stock,
            created_at=adjustment.created_at,
        )


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
    def after(self) -> Listed:
        """Behind which place to begin."""
        return _place(decoded(self.cursor)) or Listed()


class ReservationPage(Json):
    """Some reservations: those that hold stock first, by deadline.

    `nextCursor` leads to those behind them; without it there are none. A page can have fewer rows
    than asked for, also none, and yet lead on.
    """

    reservations: list[ReservationView]
    next_cursor: str | None = None

    @classmethod
    def of(cls, reservations: Sequence[Reservation], next_place: Listed | None) -> Self:
        """The view of a page, and the way to the next if there is more."""
        return cls.model_construct(
            reservations=[ReservationView.of(reservation) for reservation in reservations],
            next_cursor=None if next_place is None else _cursor(next_place),
        )


def _cursor(place: Listed) -> str:
    if place.expires_at is None:
        text = f"settled {place.token}"
    else:
        # In whole milliseconds, which deadlines are exact to.
        text = f"held {(place.expires_at - _EPOCH) // timedelta(milliseconds=1)} {place.token}"
    return urlsafe_b64encode(text.encode()).decode()


def _place(text: str) -> Listed | None:
    try:
        if found := _HELD.fullmatch(text):
            moment = _EPOCH + timedelta(milliseconds=int(found[1]))
            return Listed(UUID(found[2]), moment)
        if found := _SETTLED.fullmatch(text):
            return Listed(UUID(found[1]), settled=SETTLED.settled)
    except (ValueError, OverflowError):
        pass
    return None
