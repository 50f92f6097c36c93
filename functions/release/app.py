"""POST /release: the sale did not happen, the stock goes back."""

from openreserve import api, cache, errors, ledger
from openreserve.views import ReleaseBody, ReservationView


@api.operation(
    "POST /api/v1/release",
    body=ReleaseBody,
    answers={200: ReservationView},
    refusals=(errors.ReservationUnknown, errors.AlreadyCommitted, errors.AlreadyCancelled),
)
def release(_request: api.Request, body: ReleaseBody) -> api.Answer:
    """Give a hold back. A repeat gets the same answer."""
    reservation = ledger.release(body.token)
    cache.stock_returned(*(item.resource_id for item in reservation.items), settled=body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return api.Answer(200, view, outcome=reservation.status.lower())


handler = api.entry_point(release)
