"""What becomes of each message from a queue: it is spread, delivered, sent to retry or dropped.

The first attempts to endpoints that answer quickly come from one queue. Retries and deliveries to
slow endpoints come from another one, so that they take neither its messages in flight nor the
executions of its function.
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

_ASKING = (429, 503)
"""The answers whose Retry-After counts."""
Known = Mapping[str, Endpoint]


@dataclass(frozen=True, slots=True)
class _Record:
    """A message as SQS hands it to a function."""

    message_id: str
    message: Message
    receipt: str
    is_retry: bool
    """Whether it comes from the queue of retries and slow endpoints."""
    receipts: int
    event_id: str
    """Empty: it is no event."""
    event_type: str

    @property
    def endpoint_id(self) -> str:
        """Its endpoint; empty: it is still to be spread to the endpoints."""
        return self.message.endpoint_id

    @property
    def is_to_be_spread(self) -> bool:
        """Whether it is an event of which no endpoint has a message yet."""
        return bool(self.event_id) and not self.endpoint_id

    @property
    def is_early(self) -> bool:
        """Whether this receipt is only to hide the message for longer than SQS delays one."""
        return bool(self.message.due_at) and self.receipts == 1

    @property
    def attempt(self) -> int:
        """The number of the attempt that this receipt is for; the first is 1."""
        return self.message.attempts + self.receipts - bool(self.message.due_at)


async def carry_out(batch: Sequence[Mapping[str, Any]]) -> set[str]:
    """Do what is due with each record, and return the ids of the messages that are to come back.

    All at once. Carried out twice, events are delivered twice, under their ids.
    """
    try:
        known = endpoints.known_endpoints()
    except ServiceUnavailable:
        logger().warning("The endpoints cannot be read: the batch comes back")
        return {raw["messageId"] for raw in batch}
    records = [_record(raw) for raw in batch]
    to_spread = [record for record in records if record.is_to_be_spread]
    others = [record for record in records if not record.is_to_be_spread]
    not_spread, done = await asyncio.gather(
        asyncio.to_thread(_spread, to_spread, known),
        asyncio.gather(*(_carry_out(record, known) for record in others)),
    )
    return not_spread | {
        record.message_id for record, was in zip(others, done, strict=True) if not was
    }


def _spread(records: Sequence[_Record], known: Known) -> set[str]:
    """Send a message of its own to each endpoint that wants an event.

    If one is not taken, its event comes back, and is spread to all of them once more.
    """
    wanted = [
        (record.message_id, Message(record.message.content, endpoint.endpoint_id))
        for record in records
        for endpoint in known.values()
        if endpoint.wants(record.event_type)
    ]
    taken = queue.send([message for _, message in wanted])
    return {message_id for (message_id, _), was in zip(wanted, taken, strict=True) if not was}


async def _carry_out(record: _Record, known: Known) -> bool:
    """Deliver a message to its endpoint, if it still wants it, and whether that is done with."""
    if not record.event_id:
        return await asyncio.to_thread(_give_up, record, "malformed", "it is no event")
    endpoint = known.get(record.endpoint_id)
    if endpoint is None or endpoint.disabled:
        _account("dropped", record)
        return True
    if record.is_early:
        wait_seconds = max(0, record.message.due_at - int(time.time()))
        await asyncio.to_thread(queue.postpone_retry, record.receipt, wait_seconds)
        return False
    try:
        if await _left_to_retry_queue(record):
            return True
        return await _deliver(record, endpoint)
    except Exception:  # noqa: BLE001 - the rest of the batch has nothing to do with it
        trace = traceback.format_exc()
        logger().error("Unhandled exception", extra={"eventId": record.event_id, "trace": trace})
        return False


async def _left_to_retry_queue(record: _Record) -> bool:
    """Move a delivery that would hold this execution up to where the slow ones are made."""
    if record.is_retry or not _slow().is_slow(record.endpoint_id, time.monotonic()):
        return False
    message = replace(record.message, attempts=record.attempt - 1)
    moved = await asyncio.to_thread(queue.send_to_retry, message)
    if moved:
        _account("moved", record, "the endpoint is slow")
    return moved


async def _deliver(record: _Record, endpoint: Endpoint) -> bool:
    started = time.monotonic()
    try:
        reply = await sender.post(endpoint, record.event_id, record.message.content)
        reason, meant = f"it answered {reply.status}", verdict(reply.status)
        asked_seconds = reply.retry_after_seconds if reply.status in _ASKING else 0
    except sender.NotReached as failure:
        reason, meant, asked_seconds = str(failure), Verdict.FAILED, 0
    _note_if_slow(endpoint, started)
    _account(meant, record, reason)
    if meant == Verdict.GONE:
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await asyncio.to_thread(endpoints.disable, endpoint.endpoint_id, f"{since} {reason}")
    if meant != Verdict.FAILED:
        return True
    return await asyncio.to_thread(_retry, record, asked_seconds)


def _retry(record: _Record, asked_seconds: int) -> bool:
    """See to the next attempt, or give up; whether the message that failed is done with.

    A retry leaves the queue of first attempts, where it would count as in flight until it is due:
    SQS hands out nothing more of a queue with 120,000 of them.
    """
    schedule = settings().webhook_schedule_seconds
    if record.attempt > len(schedule):
        return _give_up(record, "given_up")
    wait_seconds = delay_seconds(record.attempt, schedule, asked_seconds, _chance())
    if record.is_retry:
        queue.postpone_retry(record.receipt, wait_seconds)
        return False
    if queue.send_to_retry(_later(record, wait_seconds)):
        return True
    queue.postpone(record.receipt, wait_seconds)
    return False


def _later(record: _Record, wait_seconds: int) -> Message:
    """The retry: SQS delays it, or what is longer hides it after its first receipt."""
    is_long = wait_seconds > queue.SEND_DELAY_SECONDS_MAX
    return replace(
        record.message,
        attempts=record.attempt,
        delay_seconds=0 if is_long else wait_seconds,
        due_at=int(time.time()) + wait_seconds if is_long else 0,
    )


def _give_up(record: _Record, outcome: str, reason: str = "") -> bool:
    """Make it a dead letter, and whether it is one; if not, it comes back."""
    given_up = queue.give_up(Message(record.message.content, record.endpoint_id, record.attempt))
    if given_up:
        _account(outcome, record, reason)
    return given_up


def _note_if_slow(endpoint: Endpoint, started: float) -> None:
    now = time.monotonic()
    if now - started >= min(SLOW_SECONDS, settings().webhook_timeout_seconds):
        _slow().note(endpoint.endpoint_id, now, _chance())


@cache
def _slow() -> SlowEndpoints:
    """The endpoints that this execution environment has found slow."""
    return SlowEndpoints()


def _chance() -> float:
    return random()  # noqa: S311 - it keeps no secret


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
    """The id and the type of an event; both empty, if the content is none."""
    try:
        event = json.loads(content)
        return str(event["id"]), str(event["type"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""


def _is_retry(arn: str) -> bool:
    """Whether the queue of this ARN is that of retries and slow endpoints."""
    return arn.rpartition(":")[2] == settings().webhook_retry_queue_url.rpartition("/")[2]


def _account(outcome: str, record: _Record, reason: str = "") -> None:
    """One line per outcome, which is its log entry and its metrics."""
    facts: dict[str, Any] = {"reason": reason} if reason else {}
    facts["eventId"] = record.event_id
    facts["endpointId"] = record.endpoint_id
    facts["attempt"] = record.attempt
    emit({"Deliveries": 1}, dimensions={"outcome": outcome}, facts=facts)
