"""POST /commit: the sale happened, the hold becomes final."""

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import handler as http_handler
from openreserve.http.schemas.reservations import CommitBody, ReservationView
from openreserve.postgres import reservations


@http_handler.operation(
    "POST /api/v1/commit",
    tag="Reservations",
    body=CommitBody,
    answers={200: ReservationView},
    refusals=(
        errors.ReservationNotFound,
        errors.HoldExpired,
        errors.AlreadyReleased,
        errors.AlreadyCancelled,
    ),
)
def commit(_request: http_handler.Request, body: CommitBody) -> http_handler.Answer:
    """Make a hold final.

    A repeat gets the same answer. A hold that is over is refused, unless `ifExpired` asks to
    reacquire its stock.
    """
    if body.if_expired == "reacquire":
        reservation = reservations.reacquire(body.token)
    else:
        reservation = reservations.commit(body.token)
    hints.forget_holds(body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return http_handler.Answer(200, view, outcome="committed")


handler = http_handler.lambda_handler(commit)
