"""POST /commit: the sale happened, the hold becomes final."""

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.http import routes
from openreserve.http.handler import Answer, Request, lambda_handler, operation
from openreserve.http.schemas.reservations import CommitBody, ReservationView
from openreserve.postgres import reservations


@operation(
    routes.COMMIT,
    body=CommitBody,
    answers={200: ReservationView},
    refusals=(
        errors.ReservationNotFound,
        errors.HoldExpired,
        errors.AlreadyReleased,
        errors.AlreadyCancelled,
    ),
)
def commit(_request: Request, body: CommitBody) -> Answer:
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
    return Answer(200, view, outcome="committed")


handler = lambda_handler(commit)
