"""What becomes of each message from the queue: it is spread, delivered, postponed or dropped."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random
from typing import Any

from openreserve import endpoints, outbound, queue
from openreserve.logs import logger, metrics
from openreserve.queue import Message
from openreserve.settings import settings
from openreserve.webhooks import Endpoint, Verdict, delay_seconds, verdict


class Undelivered(Exception):
    """The message stays in the queue: its attempt failed."""


@dataclass(frozen=True, slots=True)
class _Record:
    """A message as SQS hands it to a function."""

    message: Message
    receipt: str
    attempt: int
    event_id: str
    event_type: str


async def carry_out(raw: Mapping[str, Any]) -> None:
    """Do with one record of a batch what is to be done now. Done twice, it is delivered twice.

    Raises:
        Undelivered: it is to come back, after a wait that the queue knows of.
        ServiceUnavailable: it is to come back, when the queue likes.
    """
    record = _record(raw)
    if record is None:
        await asyncio.to_thread(queue.postpone, raw["receiptHandle"], 0)
        _account("malformed")
        raise Undelivered("it is no event")
    known = await asyncio.to_thread(endpoints.known_endpoints)
    if not record.message.endpoint_id:
        await _spread(record, known)
        return
    endpoint = known.get(record.message.endpoint_id)
    if endpoint is None or endpoint.disabled:
        _account("dropped", record)
    else:
        await _deliver(record, endpoint)


async def _spread(record: _Record, known: Mapping[str, Endpoint]) -> None:
    """A message of its own for each endpoint that wants the event, so that none waits for another.

    If one is not taken, all are sent once more.
    """
    messages = [
        Message(record.message.content, endpoint.endpoint_id)
        for endpoint in known.values()
        if endpoint.wants(record.event_type)
    ]
    if not all(await asyncio.to_thread(queue.send, messages)):
        raise Undelivered("the queue did not take a message for each endpoint")


async def _deliver(record: _Record, endpoint: Endpoint) -> None:
    try:
        reply = await outbound.post(endpoint, record.event_id, record.message.content)
        reason, asked_seconds, meant = (
            f"it answered {reply.status}",
            reply.retry_after_seconds if reply.status in _ASKING else 0,
            verdict(reply.status),
        )
    except outbound.NotReached as failure:
        reason, asked_seconds, meant = str(failure), 0, Verdict.FAILED
    _account(meant, record, reason)
    if meant == Verdict.GONE:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        await asyncio.to_thread(
            endpoints.disable, endpoint.endpoint_id, f"{since.replace('+00:00', 'Z')} {reason}"
        )
    elif meant == Verdict.FAILED:
        wait_seconds = delay_seconds(
            record.attempt,
            settings().webhook_schedule_seconds,
            asked_seconds,
            random(),  # noqa: S311
        )
        await asyncio.to_thread(queue.postpone, record.receipt, wait_seconds)
        raise Undelivered(reason)


_ASKING = (429, 503)
"""The answers whose Retry-After counts."""


def _record(raw: Mapping[str, Any]) -> _Record | None:
    """The record; None, if it is none of ours."""
    attribute = raw.get("messageAttributes", {}).get(queue.ENDPOINT, {})
    try:
        event = json.loads(raw["body"])
        return _Record(
            message=Message(raw["body"], attribute.get("stringValue", "")),
            receipt=raw["receiptHandle"],
            attempt=int(raw["attributes"]["ApproximateReceiveCount"]),
            event_id=str(event["id"]),
            event_type=str(event["type"]),
        )
    except (ValueError, KeyError, TypeError):
        logger().error("A message is no event", extra={"messageId": raw.get("messageId")})
        return None


def _account(outcome: str, record: _Record | None = None, reason: str = "") -> None:
    """One line per outcome, which is its log entry and its metrics."""
    line = metrics()
    line.add_dimension("outcome", outcome)
    line.add_metric("Deliveries", "Count", 1)
    if record is not None:
        line.add_metadata("eventId", record.event_id)
        line.add_metadata("endpointId", record.message.endpoint_id)
        line.add_metadata("attempt", record.attempt)
    if reason:
        line.add_metadata("reason", reason)
    line.flush_metrics()
