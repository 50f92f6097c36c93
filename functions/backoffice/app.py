"""What operators do: set many totals, adjust one with a reason, list reservations."""

from pydantic import ValidationError

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import routes
from openreserve.http.handler import Answer, Request, idempotency_key, lambda_handler, operation
from openreserve.http.schemas.reservations import ReservationPage, ReservationQuery
from openreserve.http.schemas.resources import AdjustmentBody, AdjustmentView, BatchBody, BatchView
from openreserve.postgres import reservations, resources


@operation(routes.SET_STOCK_OF_MANY, body=BatchBody, answers={200: BatchView})
def set_stock_of_many(_request: Request, body: BatchBody) -> Answer:
    """Create or set many resources.

    One after the other; the answer has the outcome of each row. A row that is refused stops no
    other. A repeat changes nothing.
    """
    rows = body.totals()
    totals = [row for row in rows if not isinstance(row, ValidationError)]
    outcomes = resources.set_stock_of_many(totals) if totals else []
    changed = [
        total.resource_id
        for total, (outcome, _) in zip(totals, outcomes, strict=True)
        if outcome == "changed"  # what was created cannot have been sold out before
    ]
    hints.stock_returned(*changed)
    view = BatchView.of(rows, outcomes)
    return Answer(200, view.model_dump_json(by_alias=True, exclude_none=True))


@operation(
    routes.ADJUST_STOCK,
    body=AdjustmentBody,
    headers={"Idempotency-Key": "Names this request: a repeat is answered as the first was."},
    answers={200: AdjustmentView},
    sends=("Idempotent-Replayed",),
    refusals=(
        errors.IdempotencyKeyMissing,
        errors.IdempotencyKeyInvalid,
        errors.IdempotencyKeyReused,
        errors.ResourceNotFound,
        errors.TotalOutOfRange,
        errors.BelowAllocated,
    ),
)
def adjust_stock(request: Request, body: AdjustmentBody) -> Answer:
    """Move the total of a resource by a difference.

    The reason is kept. A repeat with the same Idempotency-Key gets the first answer and moves
    nothing more.
    """
    adjustment, replayed = resources.adjust_stock(
        idempotency_key(request), body.resource_id, body.difference, body.reason
    )
    hints.stock_returned(body.resource_id)
    view = AdjustmentView.of(adjustment).model_dump_json(by_alias=True)
    if replayed:
        return Answer(200, view, {"idempotent-replayed": "true"}, "replayed")
    return Answer(200, view, outcome="adjusted")


@operation(
    routes.LIST_RESERVATIONS,
    query=ReservationQuery,
    answers={200: ReservationPage},
    refusals=(errors.QueryInvalid,),
)
def list_reservations(_request: Request, query: ReservationQuery) -> Answer:
    """List reservations.

    Those that hold stock first, by deadline, page by page. Tokens are secrets: this is for
    operators.
    """
    found, next_place = reservations.list_reservations(
        query.resource_id, query.status, query.after, query.limit
    )
    page = ReservationPage.of(found, next_place)
    return Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


handler = lambda_handler(set_stock_of_many, adjust_stock, list_reservations)
