"""POST /reserve: set stock aside for one buyer, for a limited time."""

from uuid import UUID, uuid4

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import routes
from openreserve.http.handler import Answer, Request, hold_request, lambda_handler, operation
from openreserve.http.schemas.reservations import ReservationView, ReserveBody
from openreserve.postgres import reservations


@operation(
    routes.RESERVE,
    body=ReserveBody,
    headers={"Idempotency-Key": "Names this request: a repeat is answered as the first was."},
    answers={200: ReservationView},
    sends=("Location", "Idempotent-Replayed"),
    refusals=(
        errors.IdempotencyKeyMissing,
        errors.IdempotencyKeyInvalid,
        errors.TooManyItems,
        errors.IdempotencyKeyReused,
        errors.ResourceNotFound,
        errors.TtlOutOfRange,
        errors.OutOfStock,
        errors.IdempotencyInProgress,
    ),
)
def reserve(request: Request, body: ReserveBody) -> Answer:
    """Hold stock: all items, or none.

    The hold ends at `expiresAt`, unless it is committed or released before. A repeat with the same
    Idempotency-Key gets the first answer and holds nothing more; after an error it may succeed.
    """
    requested = hold_request(request, body)
    recalled = hints.recall(requested)
    if recalled.answer is not None:
        return _answer(*recalled.answer, replayed=True)
    if recalled.shortage is not None:
        refusal = errors.OutOfStock(items=[recalled.shortage])
        refusal.by_marker = True
        raise refusal
    try:
        hold, replayed = reservations.reserve(requested, token=uuid4())
    except errors.OutOfStock as refusal:
        hints.mark_sold_out(requested, recalled, refusal)
        raise
    view = ReservationView.of(hold).model_dump_json(by_alias=True, exclude_none=True)
    hints.remember_hold(requested, hold, view)
    return _answer(hold.token, view, replayed=replayed)


def _answer(token: UUID, view: str, *, replayed: bool) -> Answer:
    headers = {"location": f"/api/v1/reservations/{token}"}
    if replayed:
        return Answer(200, view, headers | {"idempotent-replayed": "true"}, "replayed")
    return Answer(200, view, headers, "held")


handler = lambda_handler(reserve)
