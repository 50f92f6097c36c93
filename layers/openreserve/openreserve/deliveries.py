"""What becomes of each message from the queue: it is spread, delivered, postponed or dropped."""

import asyncio
import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random
from typing import Any

from openreserve import endpoints, outbound, queue
from openreserve.errors import ServiceUnavailable
from openreserve.logs import logger, tell
from openreserve.queue import Message
from openreserve.settings import settings
from openreserve.webhooks import Endpoint, Verdict, delay_seconds, verdict

_ASKING = (429, 503)
"""The answers whose Retry-After counts."""

Known = Mapping[str, Endpoint]


@dataclass(frozen=True, slots=True)
class _Record:
    """A message as SQS hands it to a function."""

    message_id: str
    message: Message
    receipt: str
    attempt: int
    event_id: str
    event_type: str


async def carry_out(batch: Sequence[Mapping[str, Any]]) -> set[str]:
    """Do with each record what is to be done now; which messages are to come back is returned.

    All at once, so that none waits for an endpoint that is slow. Carried out twice, events are
    delivered twice, under their ids.
    """
    try:
        known = endpoints.known_endpoints()
    except ServiceUnavailable:
        logger().warning("The endpoints cannot be told now: all comes back")
        return {raw["messageId"] for raw in batch}
    records = [record for raw in batch if (record := _record(raw))]
    malformed = {raw["messageId"] for raw in batch} - {record.message_id for record in records}
    to_spread = [record for record in records if not record.message.endpoint_id]
    to_deliver = [record for record in records if record.message.endpoint_id]
    not_spread, done = await asyncio.gather(
        asyncio.to_thread(_spread, to_spread, known),
        asyncio.gather(*(_carry_out(record, known) for record in to_deliver)),
    )
    failed = {record.message_id for record, was in zip(to_deliver, done, strict=True) if not was}
    return malformed | not_spread | failed


def _spread(records: Sequence[_Record], known: Known) -> set[str]:
    """A message of its own for each endpoint that wants an event, so that none waits for another.

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
    endpoint = known.get(record.message.endpoint_id)
    if endpoint is None or endpoint.disabled:
        _account("dropped", record)
        return True
    try:
        return await _deliver(record, endpoint)
    except Exception:  # noqa: BLE001 - the rest of the batch has nothing to do with it
        trace = traceback.format_exc()
        logger().error("Nobody foresaw this", extra={"eventId": record.event_id, "trace": trace})
        return False


async def _deliver(record: _Record, endpoint: Endpoint) -> bool:
    try:
        reply = await outbound.post(endpoint, record.event_id, record.message.content)
        reason, meant = f"it answered {reply.status}", verdict(reply.status)
        asked_seconds = reply.retry_after_seconds if reply.status in _ASKING else 0
    except outbound.NotReached as failure:
        reason, meant, asked_seconds = str(failure), Verdict.FAILED, 0
    _account(meant, record, reason)
    if meant == Verdict.GONE:
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await asyncio.to_thread(endpoints.disable, endpoint.endpoint_id, f"{since} {reason}")
    elif meant == Verdict.FAILED:
        wait_seconds = delay_seconds(
            record.attempt,
            settings().webhook_schedule_seconds,
            asked_seconds,
            chance=random(),  # noqa: S311 - it keeps no secret
        )
        await asyncio.to_thread(queue.postpone, record.receipt, wait_seconds)
    return meant != Verdict.FAILED


def _record(raw: Mapping[str, Any]) -> _Record | None:
    """The record; None, if it is none of ours: it comes back at once, until it is given up."""
    attribute = raw.get("messageAttributes", {}).get(queue.ENDPOINT, {})
    try:
        event = json.loads(raw["body"])
        return _Record(
            message_id=raw["messageId"],
            message=Message(raw["body"], attribute.get("stringValue", "")),
            receipt=raw["receiptHandle"],
            attempt=int(raw["attributes"]["ApproximateReceiveCount"]),
            event_id=str(event["id"]),
            event_type=str(event["type"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        logger().error("A message is no event", extra={"messageId": raw["messageId"]})
        queue.postpone(raw["receiptHandle"], 0)
        _account("malformed")
        return None


def _account(outcome: str, record: _Record | None = None, reason: str = "") -> None:
    """One line per outcome, which is its log entry and its metrics."""
    facts: dict[str, Any] = {"reason": reason} if reason else {}
    if record is not None:
        facts["eventId"] = record.event_id
        facts["endpointId"] = record.message.endpoint_id
        facts["attempt"] = record.attempt
    tell({"Deliveries": 1}, dimensions={"outcome": outcome}, facts=facts)
