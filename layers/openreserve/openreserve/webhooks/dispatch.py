"""Processes messages from the queues: fans events out, delivers, retries, gives up.

First attempts to fast endpoints use one queue. Retries and deliveries to slow endpoints use a
second one, so that they do not use up the in-flight messages and the concurrency of the first.
"""

import asyncio
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from random import random
from typing import Any

from openreserve.domain.errors import ServiceUnavailable
from openreserve.domain.webhooks import (
    SLOW_SECONDS,
    Endpoint,
    Message,
    SlowEndpoints,
    Verdict,
    delay_seconds,
    verdict,
)
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import emit, logger
from openreserve.webhooks import endpoints, queue, sender

_RETRY_AFTER_STATUSES = (429, 503)
"""The statuses whose Retry-After is respected."""
EndpointsById = Mapping[str, Endpoint]


@dataclass(frozen=True, slots=True)
class _Record:
    """A message as SQS passes it to a function."""

    message_id: str
    message: Message
    receipt: str
    is_retry: bool
    """Whether it comes from the queue of retries and slow endpoints."""
    receipts: int
    event_id: str
    """Empty: the content is not an event."""
    event_type: str

    @property
    def endpoint_id(self) -> str:
        """Its endpoint; empty: it is not fanned out yet."""
        return self.message.endpoint_id

    @property
    def needs_fan_out(self) -> bool:
        """Whether it is an event that is not fanned out to the endpoints yet."""
        return bool(self.event_id) and not self.endpoint_id

    @property
    def is_early(self) -> bool:
        """Whether this receipt only starts a delay that is longer than DelaySeconds allows."""
        return bool(self.message.due_at) and self.receipts == 1

    @property
    def attempt(self) -> int:
        """The number of the attempt of this receipt; the first is 1."""
        return self.message.attempts + self.receipts - bool(self.message.due_at)


async def carry_out(batch: Sequence[Mapping[str, Any]]) -> set[str]:
    """Process a batch of records concurrently; the ids of the messages that SQS must keep.

    If a batch is processed twice, its events are delivered twice, with the same ids.
    """
    try:
        by_id = endpoints.known_endpoints()
    except ServiceUnavailable:
        logger().warning("Could not read the endpoints; SQS keeps the batch")
        return {raw["messageId"] for raw in batch}
    records = [_record(raw) for raw in batch]
    events = [record for record in records if record.needs_fan_out]
    others = [record for record in records if not record.needs_fan_out]
    failed, done = await asyncio.gather(
        asyncio.to_thread(_fan_out, events, by_id),
        asyncio.gather(*(_process(record, by_id) for record in others)),
    )
    return failed | {
        record.message_id for record, is_done in zip(others, done, strict=True) if not is_done
    }


def _fan_out(events: Sequence[_Record], by_id: EndpointsById) -> set[str]:
    """Send one message for each event and subscribed endpoint; the ids of events that failed.

    If one message of an event is not accepted, SQS keeps the event, and all are sent again.
    """
    messages = [
        (event.message_id, Message(event.message.content, endpoint.endpoint_id))
        for event in events
        for endpoint in by_id.values()
        if endpoint.wants(event.event_type)
    ]
    accepted = queue.send([message for _, message in messages])
    return {event_id for (event_id, _), sent in zip(messages, accepted, strict=True) if not sent}


async def _process(record: _Record, by_id: EndpointsById) -> bool:
    """Deliver a message to its endpoint; whether it can be deleted from the queue."""
    if not record.event_id:
        return await asyncio.to_thread(_give_up, record, "malformed", "it is not an event")
    endpoint = by_id.get(record.endpoint_id)
    if endpoint is None or endpoint.disabled:
        _emit("dropped", record)
        return True
    if record.is_early:
        wait_seconds = max(0, record.message.due_at - int(time.time()))
        await asyncio.to_thread(queue.postpone_retry, record.receipt, wait_seconds)
        return False
    try:
        if await _moved_to_retry_queue(record):
            return True
        return await _deliver(record, endpoint)
    except Exception:  # noqa: BLE001 - the rest of the batch is not affected
        trace = traceback.format_exc()
        logger().error("Unhandled exception", extra={"eventId": record.event_id, "trace": trace})
        return False


async def _moved_to_retry_queue(record: _Record) -> bool:
    """Move a first attempt to a slow endpoint to the queue of retries and slow endpoints."""
    if record.is_retry or not _slow().is_slow(record.endpoint_id, time.monotonic()):
        return False
    message = replace(record.message, attempts=record.attempt - 1)
    moved = await asyncio.to_thread(queue.send_to_retry, message)
    if moved:
        _emit("moved", record, "the endpoint is slow")
    return moved


async def _deliver(record: _Record, endpoint: Endpoint) -> bool:
    started = time.monotonic()
    try:
        reply = await sender.post(endpoint, record.event_id, record.message.content)
        reason, outcome = f"it answered {reply.status}", verdict(reply.status)
        retry_after = reply.retry_after_seconds if reply.status in _RETRY_AFTER_STATUSES else 0
    except sender.NotReached as error:
        reason, outcome, retry_after = str(error), Verdict.FAILED, 0
    _note_if_slow(endpoint, started)
    _emit(outcome, record, reason)
    if outcome == Verdict.GONE:
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await asyncio.to_thread(endpoints.disable, endpoint.endpoint_id, f"{since} {reason}")
    if outcome != Verdict.FAILED:
        return True
    return await asyncio.to_thread(_retry, record, retry_after)


def _retry(record: _Record, retry_after_seconds: int) -> bool:
    """Schedule the next attempt, or give up; whether the message can be deleted from its queue.

    A retry leaves the queue of first attempts, where it would count as in flight until it is due:
    SQS delivers nothing more from a queue with 120,000 messages in flight.
    """
    schedule = settings().webhook_schedule_seconds
    if record.attempt > len(schedule):
        return _give_up(record, "given_up")
    wait_seconds = delay_seconds(record.attempt, schedule, retry_after_seconds, _chance())
    if record.is_retry:
        queue.postpone_retry(record.receipt, wait_seconds)
        return False
    if queue.send_to_retry(_later(record, wait_seconds)):
        return True
    queue.postpone(record.receipt, wait_seconds)
    return False


def _later(record: _Record, wait_seconds: int) -> Message:
    """The retry: delayed by DelaySeconds, or if longer, hidden after its first receipt."""
    is_long = wait_seconds > queue.SEND_DELAY_SECONDS_MAX
    return replace(
        record.message,
        attempts=record.attempt,
        delay_seconds=0 if is_long else wait_seconds,
        due_at=int(time.time()) + wait_seconds if is_long else 0,
    )


def _give_up(record: _Record, outcome: str, reason: str = "") -> bool:
    """Send it to the dead-letter queue; whether that succeeded. If not, SQS keeps it."""
    accepted = queue.give_up(Message(record.message.content, record.endpoint_id, record.attempt))
    if accepted:
        _emit(outcome, record, reason)
    return accepted


def _note_if_slow(endpoint: Endpoint, started: float) -> None:
    now = time.monotonic()
    if now - started >= min(SLOW_SECONDS, settings().webhook_timeout_seconds):
        _slow().note(endpoint.endpoint_id, now, _chance())


@cache
def _slow() -> SlowEndpoints:
    """The endpoints that were slow in this execution environment."""
    return SlowEndpoints()


def _chance() -> float:
    return random()  # noqa: S311 - not for cryptography


def _record(raw: Mapping[str, Any]) -> _Record:
    attributes = raw["messageAttributes"]

    def number(name: str) -> int:
        text: str = attributes.get(name, {}).get("stringValue", "")
        return int(text) if text.isdecimal() else 0

    event_id, event_type = _event(raw["body"])
    endpoint_id = attributes.get(queue.ENDPOINT, {}).get("stringValue", "")
    return _Record(
        message_id=raw["messageId"],
        message=Message(
            raw["body"],
            endpoint_id,
            attempts=number(queue.ATTEMPTS),
            due_at=number(queue.DUE_AT),
        ),
        receipt=raw["receiptHandle"],
        is_retry=_is_retry(raw["eventSourceARN"]),
        receipts=int(raw["attributes"]["ApproximateReceiveCount"]),
        event_id=event_id,
        event_type=event_type,
    )


def _event(content: str) -> tuple[str, str]:
    """The id and the type of an event; both empty if the content is not an event."""
    try:
        event = json.loads(content)
        return str(event["id"]), str(event["type"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""


def _is_retry(arn: str) -> bool:
    """Whether this is the ARN of the queue of retries and slow endpoints."""
    return arn.rpartition(":")[2] == settings().webhook_retry_queue_url.rpartition("/")[2]


def _emit(outcome: str, record: _Record, reason: str = "") -> None:
    """Write one line per outcome, which is a log entry and metrics."""
    facts: dict[str, Any] = {"reason": reason} if reason else {}
    facts["eventId"] = record.event_id
    facts["endpointId"] = record.endpoint_id
    facts["attempt"] = record.attempt
    emit({"Deliveries": 1}, dimensions={"outcome": outcome}, facts=facts)
