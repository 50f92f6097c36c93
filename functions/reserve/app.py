"""POST /reserve: set stock aside for one buyer, for a limited time."""

from uuid import UUID, uuid4

from openreserve import api, cache, errors, ledger
from openreserve.views import ReservationView, ReserveBody


@api.operation(
    "POST /api/v1/reserve",
    tag="Reservations",
    body=ReserveBody,
    headers={"Idempotency-Key": "Names this request: a repeat is answered as the first was."},
    answers={200: ReservationView},
    sends=("Location", "Idempotent-Replayed"),
    refusals=(
        errors.KeyMissing,
        errors.KeyInvalid,
        errors.TooManyItems,
        errors.KeyReused,
        errors.ResourceUnknown,
        errors.TtlOutOfRange,
        errors.OutOfStock,
        errors.KeyInProgress,
    ),
)
def reserve(request: api.Request, body: ReserveBody) -> api.Answer:
    """Hold stock: all items, or none.

    The hold ends at `expiresAt`, unless it is committed or released before. A repeat with the same
    Idempotency-Key gets the first answer and holds nothing more; after an error it may succeed.
    """
    order = api.order(request, body)
    recalled = cache.recall(order)
    if recalled.answer is not None:
        return _answer(*recalled.answer, replayed=True)
    if recalled.shortage is not None:
        refusal = errors.OutOfStock(items=[recalled.shortage])
        refusal.by_marker = True
        raise refusal
    try:
        hold, replayed = ledger.reserve(order, token=uuid4())
    except errors.OutOfStock as refusal:
        cache.mark_sold_out(order, recalled, refusal)
        raise
    view = ReservationView.of(hold).model_dump_json(by_alias=True, exclude_none=True)
    cache.remember_hold(order, hold, view)
    return _answer(hold.token, view, replayed=replayed)


def _answer(token: UUID, view: str, *, replayed: bool) -> api.Answer:
    headers = {"location": f"/api/v1/reservations/{token}"}
    if replayed:
        return api.Answer(200, view, headers | {"idempotent-replayed": "true"}, "replayed")
    return api.Answer(200, view, headers, "held")


handler = api.entry_point(reserve)
