"""What operators do: set many totals, adjust one with a reason, list reservations."""

from pydantic import ValidationError

from openreserve import api, backoffice, cache, errors
from openreserve.backoffice_views import (
    AdjustmentBody,
    AdjustmentView,
    BatchBody,
    BatchView,
    ReservationPage,
    ReservationQuery,
)


@api.operation(
    "POST /api/v1/resources/batch", tag="Stock", body=BatchBody, answers={200: BatchView}
)
def set_stock_of_many(_request: api.Request, body: BatchBody) -> api.Answer:
    """Create or set many resources.

    One after the other; the answer has the outcome of each row. A row that is refused stops no
    other. A repeat changes nothing.
    """
    rows = body.totals()
    totals = [row for row in rows if not isinstance(row, ValidationError)]
    outcomes = backoffice.set_stock_of_many(totals) if totals else []
    changed = [
        total.resource_id
        for total, (outcome, _) in zip(totals, outcomes, strict=True)
        if outcome == "changed"  # what was created cannot have been sold out before
    ]
    cache.stock_returned(*changed)
    view = BatchView.of(rows, outcomes)
    return api.Answer(200, view.model_dump_json(by_alias=True, exclude_none=True))


@api.operation(
    "POST /api/v1/adjustments",
    tag="Stock",
    body=AdjustmentBody,
    headers={"Idempotency-Key": "Names this request: a repeat is answered as the first was."},
    answers={200: AdjustmentView},
    sends=("Idempotent-Replayed",),
    refusals=(
        errors.KeyMissing,
        errors.KeyInvalid,
        errors.KeyReused,
        errors.ResourceUnknown,
        errors.TotalOutOfRange,
        errors.BelowAllocated,
    ),
)
def adjust_stock(request: api.Request, body: AdjustmentBody) -> api.Answer:
    """Move the total of a resource by a difference.

    The reason is kept. A repeat with the same Idempotency-Key gets the first answer and moves
    nothing more.
    """
    adjustment, replayed = backoffice.adjust_stock(
        api.idempotency_key(request), body.resource_id, body.difference, body.reason
    )
    cache.stock_returned(body.resource_id)
    view = AdjustmentView.of(adjustment).model_dump_json(by_alias=True)
    if replayed:
        return api.Answer(200, view, {"idempotent-replayed": "true"}, "replayed")
    return api.Answer(200, view, outcome="adjusted")


@api.operation(
    "GET /api/v1/reservations",
    tag="Reservations",
    query=ReservationQuery,
    answers={200: ReservationPage},
    refusals=(errors.QueryInvalid,),
)
def list_reservations(_request: api.Request, query: ReservationQuery) -> api.Answer:
    """List reservations.

    Those that hold stock first, by deadline, page by page. Tokens are secrets: this is for
    operators.
    """
    found, next_place = backoffice.list_reservations(
        query.resource_id, query.status, query.after, query.limit
    )
    page = ReservationPage.of(found, next_place)
    return api.Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


handler = api.entry_point(set_stock_of_many, adjust_stock, list_reservations)
