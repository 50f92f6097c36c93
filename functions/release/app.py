"""POST /release: the sale did not happen, the stock goes back."""

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import handler as http_handler
from openreserve.http.schemas.reservations import ReleaseBody, ReservationView
from openreserve.postgres import reservations


@http_handler.operation(
    "POST /api/v1/release",
    tag="Reservations",
    body=ReleaseBody,
    answers={200: ReservationView},
    refusals=(errors.ReservationNotFound, errors.AlreadyCommitted, errors.AlreadyCancelled),
)
def release(_request: http_handler.Request, body: ReleaseBody) -> http_handler.Answer:
    """Give a hold back.

    Its stock is available at once. A repeat gets the same answer. A hold that is over stays
    EXPIRED, which is no error.
    """
    reservation = reservations.release(body.token)
    hints.stock_returned(*(item.resource_id for item in reservation.items), settled=body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return http_handler.Answer(200, view, outcome=reservation.status.lower())


handler = http_handler.lambda_handler(release)
