"""Hands events on to the queue: each at least once, whoever dies in between."""

from openreserve.domain.events import Event
from openreserve.domain.webhooks import Message
from openreserve.http.schemas.events import EventView
from openreserve.postgres import events
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit
from openreserve.webhooks import queue

CLAIM_SECONDS = 30
"""Longer than sending a batch takes; then others may hand on what its sender did not."""
CLAIMED_AT_A_TIME = 100


def publish() -> int:
    """Hand on a batch of the events that wait, and return how many there were; 0: none waited.

    What the queue does not take stays, to be handed on when the claim is over. If this process dies
    between sending and marking, the same happens, and the event is sent twice under its one id.

    Raises:
        Contention, DatabaseUnavailable: what was claimed or sent may be sent once more.
    """
    claimed = events.claim_events(CLAIM_SECONDS, CLAIMED_AT_A_TIME)
    if not claimed:
        return 0
    if settings().webhook_queue_url:
        taken = queue.send([Message(_content(event)) for event, _ in claimed])
    else:
        taken = [True] * len(claimed)  # there is no queue: nobody is to get them, now or later
    events.mark_published(
        [event.cursor for (event, _), was in zip(claimed, taken, strict=True) if was]
    )
    _account(taken, oldest_ms=max(age_ms for _, age_ms in claimed))
    return len(claimed)


def _content(event: Event) -> str:
    return EventView.of(event).model_dump_json(by_alias=True, exclude_none=True)


def _account(taken: list[bool], oldest_ms: int) -> None:
    emit(
        {
            "EventsHandedOn": sum(taken),
            "EventsNotTaken": len(taken) - sum(taken),
            "OutboxAge": oldest_ms,
        }
    )
