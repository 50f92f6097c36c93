"""POST /release: the sale did not happen, the stock goes back."""

from openreserve import api, cache, errors, ledger
from openreserve.views import ReleaseBody, ReservationView


@api.operation(
    "POST /api/v1/release",
    tag="Reservations",
    body=ReleaseBody,
    answers={200: ReservationView},
    refusals=(errors.ReservationUnknown, errors.AlreadyCommitted, errors.AlreadyCancelled),
)
def release(_request: api.Request, body: ReleaseBody) -> api.Answer:
    """Give a hold back.

    Its stock is available at once. A repeat gets the same answer. A hold that is over stays
    EXPIRED, which is no error.
    """
    reservation = ledger.release(body.token)
    cache.stock_returned(*(item.resource_id for item in reservation.items), settled=body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return api.Answer(200, view, outcome=reservation.status.lower())


handler = api.entry_point(release)
