"""POST /commit: the sale happened, the hold becomes final."""

from openreserve import api, cache, errors, ledger
from openreserve.views import CommitBody, ReservationView


@api.operation(
    "POST /api/v1/commit",
    tag="Reservations",
    body=CommitBody,
    answers={200: ReservationView},
    refusals=(
        errors.ReservationUnknown,
        errors.HoldExpired,
        errors.AlreadyReleased,
        errors.AlreadyCancelled,
    ),
)
def commit(_request: api.Request, body: CommitBody) -> api.Answer:
    """Make a hold final.

    A repeat gets the same answer. A hold that is over is refused, unless `ifExpired` asks to
    reacquire its stock.
    """
    if body.if_expired == "reacquire":
        reservation = ledger.reacquire(body.token)
    else:
        reservation = ledger.commit(body.token)
    cache.forget_holds(body.token)
    view = ReservationView.of(reservation).model_dump_json(by_alias=True, exclude_none=True)
    return api.Answer(200, view, outcome="committed")


handler = api.entry_point(commit)
