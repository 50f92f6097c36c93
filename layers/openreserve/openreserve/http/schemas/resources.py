"""Request and response bodies about resources."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Self

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

from openreserve.domain.resources import (
    RESOURCE_ID_LENGTH_MAX,
    TOTAL_STOCK_MAX,
    Adjustment,
    Resource,
    Total,
    normalized_prefix,
)
from openreserve.http.schemas.fields import (
    INT64,
    PREFIX_PATTERN,
    PRINTABLE_NOT_BLANK,
    Instant,
    InvalidFields,
    Json,
    PageSize,
    ResourceId,
    Stock,
    decoded,
    invalid_fields,
    is_storable_id,
    one_of,
)
from openreserve.runtime.settings import Settings, settings


class ResourceBody(Json):
    """A resource and its total number of units."""

    resource_id: ResourceId
    total_stock: int = Field(ge=0, le=TOTAL_STOCK_MAX, json_schema_extra=INT64)


class ResourceView(Json):
    """A resource and its stock. totalStock = availableStock + heldStock + committedStock."""

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
    """Which resources to list: those whose ids start with the prefix, after the cursor."""

    model_config = ConfigDict(strict=False)  # a query parameter is a string

    prefix: Annotated[str, AfterValidator(normalized_prefix)] = Field(
        "",
        description="The prefix of the ids.",
        json_schema_extra={
            "maxLength": RESOURCE_ID_LENGTH_MAX,
            "pattern": PREFIX_PATTERN,
        },
    )
    cursor: str = Field("", description="`nextCursor` of the previous page.")
    limit: PageSize = 50

    @field_validator("cursor")
    @classmethod
    def _decodes(cls, cursor: str) -> str:
        if cursor and not is_storable_id(decoded(cursor)):
            raise ValueError("is not a cursor that this API issued")
        return cursor

    @property
    def after(self) -> str:
        """The id of the last resource of the previous page; empty on the first page."""
        return decoded(self.cursor)


class ResourcePage(Json):
    """A page of resources, by id. `nextCursor` continues after it; the last page has none."""

    resources: list[ResourceView]
    next_cursor: str | None = None

    @classmethod
    def of(cls, resources: list[Resource], *, more: bool) -> Self:
        """The view of a page, with the cursor of the next one, if there is one."""
        cursor = urlsafe_b64encode(resources[-1].resource_id.encode()).decode() if more else None
        return cls.model_construct(
            resources=[ResourceView.of(resource) for resource in resources], next_cursor=cursor
        )


REASON_LENGTH_MAX = 500


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
    """Describes the rows in OpenAPI. They are validated one by one: an invalid one fails alone."""

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
    """Resources and their totals. An invalid row does not affect the others."""

    resources: Annotated[
        list[Any],
        Field(min_length=1),
        AfterValidator(_not_too_many),
        _Rows(),
    ]

    def totals(self) -> list[Total | ValidationError]:
        """Each row as a total, or its validation error."""
        return [_total(row) for row in self.resources]


def _total(row: Any) -> Total | ValidationError:
    try:
        body = ResourceBody.model_validate(row)
    except ValidationError as error:
        return error
    return Total(body.resource_id, body.total_stock)


class RowView(Json):
    """The outcome of a row: `created`, `changed`, `unchanged`, or an error code."""

    resource_id: str | None = None
    outcome: Annotated[
        str,
        one_of("RowOutcome", "created", "changed", "unchanged", "below_allocated", "body_invalid"),
    ]
    allocated_stock: Stock | None = Field(
        None, description="With `below_allocated`: the units that are held or committed."
    )
    errors: InvalidFields | None = Field(
        None, description="With `body_invalid`: the invalid fields of the row."
    )


class BatchView(Json):
    """The outcome of each row, in the order of the request."""

    results: list[RowView]

    @classmethod
    def of(
        cls,
        rows: Sequence[Total | ValidationError],
        outcomes: Sequence[tuple[str, int | None]],
    ) -> Self:
        """The view of all rows; `outcomes` has those of the valid rows."""
        remaining = iter(outcomes)
        return cls.model_construct(
            results=[
                RowView.model_construct(outcome="body_invalid", errors=invalid_fields(row))
                if isinstance(row, ValidationError)
                else _valid_row(row, *next(remaining))
                for row in rows
            ]
        )


def _valid_row(row: Total, outcome: str, allocated: int | None) -> RowView:
    return RowView.model_construct(
        resource_id=row.resource_id, outcome=outcome, allocated_stock=allocated
    )


class AdjustmentBody(Json):
    """A change of a resource's total by a difference, with its reason."""

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
    """An adjustment. `totalStock` is the total directly after it."""

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
