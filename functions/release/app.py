"""POST /release: the sale did not happen, the stock goes back."""

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import routes
from openreserve.http.handler import Answer, Request, lambda_handler, operation
from openreserve.http.schemas.reservations import ReleaseBody, ReservationView
from openreserve.postgres import reservations


@operation(
    routes.RELEASE,
    body=ReleaseBody,
    answers={200: ReservationView},
    refusals=(errors.ReservationNotFound, errors.AlreadyCommitted, errors.AlreadyCancelled),
)
def release(_request: Request, body: ReleaseBody) -> Answer:
    """Give a hold back.

    Its stock is available at once. A repeat gets the same answer. A hold that is over stays
    EXPIRED, which is no error.
    """
    reservation = reservations.release(body.token)
    hints.stock_returned(*(item.resource_id for item in reservation.items), settled=body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return Answer(200, view, outcome=reservation.status.lower())


handler = lambda_handler(release)
