"""Publishes events from the outbox to SQS, each at least once, also across crashes."""

from openreserve.domain.events import Event
from openreserve.domain.webhooks import Message
from openreserve.http.schemas.events import EventView
from openreserve.postgres import events
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit
from openreserve.webhooks import queue

CLAIM_SECONDS = 30
"""Longer than sending a batch takes. After it, another publisher may claim the same events."""
CLAIM_BATCH_SIZE = 100


def publish() -> int:
    """Publish a batch of unpublished events, and return the number of claimed ones; 0: none left.

    Events that SQS does not accept are published again when the claim expires. The same happens if
    this process stops between sending and marking: the event is then sent twice, with the same id.

    Raises:
        Contention, DatabaseUnavailable: events that were claimed or sent may be sent again.
    """
    claimed = events.claim_events(CLAIM_SECONDS, CLAIM_BATCH_SIZE)
    if not claimed:
        return 0
    if settings().webhook_queue_url:
        accepted = queue.send([Message(_content(event)) for event, _ in claimed])
    else:
        accepted = [True] * len(claimed)  # webhooks are off: these events are never delivered
    events.mark_published(
        [event.cursor for (event, _), sent in zip(claimed, accepted, strict=True) if sent]
    )
    _emit_published(accepted, oldest_ms=max(age_ms for _, age_ms in claimed))
    return len(claimed)


def _content(event: Event) -> str:
    return EventView.of(event).model_dump_json(by_alias=True, exclude_none=True)


def _emit_published(accepted: list[bool], oldest_ms: int) -> None:
    emit(
        {
            "EventsHandedOn": sum(accepted),
            "EventsNotTaken": len(accepted) - sum(accepted),
            "OutboxAge": oldest_ms,
        }
    )
