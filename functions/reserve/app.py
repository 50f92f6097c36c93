"""POST /reserve: set stock aside for one buyer, for a limited time."""

from uuid import UUID, uuid4

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import handler as http_handler
from openreserve.http.schemas.reservations import ReservationView, ReserveBody
from openreserve.postgres import reservations


@http_handler.operation(
    "POST /api/v1/reserve",
    tag="Reservations",
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
def reserve(request: http_handler.Request, body: ReserveBody) -> http_handler.Answer:
    """Hold stock: all items, or none.

    The hold ends at `expiresAt`, unless it is committed or released before. A repeat with the same
    Idempotency-Key gets the first answer and holds nothing more; after an error it may succeed.
    """
    order = http_handler.order(request, body)
    recalled = hints.recall(order)
    if recalled.answer is not None:
        return _answer(*recalled.answer, replayed=True)
    if recalled.shortage is not None:
        refusal = errors.OutOfStock(items=[recalled.shortage])
        refusal.by_marker = True
        raise refusal
    try:
        hold, replayed = reservations.reserve(order, token=uuid4())
    except errors.OutOfStock as refusal:
        hints.mark_sold_out(order, recalled, refusal)
        raise
    view = ReservationView.of(hold).model_dump_json(by_alias=True, exclude_none=True)
    hints.remember_hold(order, hold, view)
    return _answer(hold.token, view, replayed=replayed)


def _answer(token: UUID, view: str, *, replayed: bool) -> http_handler.Answer:
    headers = {"location": f"/api/v1/reservations/{token}"}
    if replayed:
        return http_handler.Answer(200, view, headers | {"idempotent-replayed": "true"}, "replayed")
    return http_handler.Answer(200, view, headers, "held")


handler = http_handler.lambda_handler(reserve)
