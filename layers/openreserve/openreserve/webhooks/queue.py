"""The client for SQS: events, retries and dead letters.

Sends in batches and checks the result of each entry. Must not be imported by the reserve function.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openreserve.domain.errors import ServiceUnavailable
from openreserve.domain.webhooks import DeadLetter, Message
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        MessageAttributeValueTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )


ENTRIES_MAX = 10
"""The limit of SQS for one batch call."""
BATCH_BYTES_MAX = 250_000
"""For one batch call, with room for attributes. The limit of SQS is four times as large."""
ENDPOINT = "endpointId"
"""Message attribute: the endpoint."""
ATTEMPTS = "attempts"
"""Message attribute: delivery attempts before the message was sent to this queue."""
DUE_AT = "dueAt"
"""Message attribute: when the next attempt is due, if the first receipt is earlier."""
SEND_DELAY_SECONDS_MAX = 900
"""The limit of SQS for DelaySeconds."""
_GROUP_WITHOUT_ENDPOINT = "events"
_DEAD_LETTER_VISIBILITY_SECONDS = 20
"""How long a dead letter that is being read is hidden from other readers."""


def send(messages: Sequence[Message]) -> list[bool]:
    """Send the messages, and return for each whether SQS accepted it. A repeat sends them again.

    Failures are logged. After a timeout, a message may be in the queue despite False.
    """
    return _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().webhook_queue_url, Entries=entries
        ),
        messages,
    )


def send_to_retry(message: Message) -> bool:
    """Send a message to the queue of retries and slow endpoints; whether SQS accepted it."""
    (accepted,) = _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().webhook_retry_queue_url, Entries=entries
        ),
        [message],
    )
    return accepted


def give_up(message: Message) -> bool:
    """Send a message to the dead-letter queue; whether SQS accepted it."""
    (accepted,) = _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().dead_letter_queue_url, Entries=entries
        ),
        [message],
    )
    return accepted


def postpone(receipt: str, delay_seconds: int) -> None:
    """Hide a message of the queue of first attempts for `delay_seconds`.

    If that fails, it is visible again after the visibility timeout of its queue.
    """
    with _failure_logged():
        _sqs().change_message_visibility(
            QueueUrl=settings().webhook_queue_url,
            ReceiptHandle=receipt,
            VisibilityTimeout=delay_seconds,
        )


def postpone_retry(receipt: str, delay_seconds: int) -> None:
    """Likewise, for a message of the queue of retries and slow endpoints."""
    with _failure_logged():
        _sqs().change_message_visibility(
            QueueUrl=settings().webhook_retry_queue_url,
            ReceiptHandle=receipt,
            VisibilityTimeout=delay_seconds,
        )


def list_dead_letters(limit: int) -> list[DeadLetter]:
    """At most `limit` dead letters. They stay in the queue.

    SQS returns a sample: messages that another reader receives at the same time are missing.

    Raises:
        ServiceUnavailable: SQS failed.
    """
    dead: list[DeadLetter] = []
    try:
        while len(dead) < limit and (batch := _receive_dead(min(ENTRIES_MAX, limit - len(dead)))):
            dead += batch
    finally:
        for start in range(0, len(dead), ENTRIES_MAX):
            _make_visible(dead[start : start + ENTRIES_MAX])
    return dead


def resend_dead_letters(endpoint_id: str, limit: int) -> int:
    """Send dead letters of one endpoint, or all, to the queue of first attempts again.

    At most `limit`; returns the number. A repeat continues with the rest. After a crash or failure
    one may be sent twice, with the same id, and none is lost.

    Raises:
        ServiceUnavailable: SQS failed.
    """
    others: list[DeadLetter] = []
    resent = 0
    until = time.monotonic() + _DEAD_LETTER_VISIBILITY_SECONDS / 2
    try:
        while (
            resent < limit
            and time.monotonic() < until
            and (batch := _receive_dead(min(ENTRIES_MAX, limit - resent)))
        ):
            chosen = [dead for dead in batch if endpoint_id in ("", dead.message.endpoint_id)]
            others += [dead for dead in batch if dead not in chosen]
            accepted = send([dead.message for dead in chosen])
            _delete_dead([dead for dead, sent in zip(chosen, accepted, strict=True) if sent])
            resent += sum(accepted)
    finally:
        for start in range(0, len(others), ENTRIES_MAX):
            _make_visible(others[start : start + ENTRIES_MAX])
    return resent


_SendBatch = Callable[[Sequence["SendMessageBatchRequestEntryTypeDef"]], Mapping[str, Any]]


def _send(send_batch: _SendBatch, messages: Sequence[Message]) -> list[bool]:
    accepted = [False] * len(messages)
    for batch in _batches(messages):
        try:
            response = send_batch([_entry(number, messages[number]) for number in batch])
        except (BotoCoreError, ClientError) as error:
            logger().warning("Could not send a batch to SQS", extra={"reason": repr(error)})
            continue
        for entry in response.get("Successful", ()):
            accepted[int(entry["Id"])] = True
        for entry in response.get("Failed", ()):
            logger().warning("SQS rejected a message", extra={"reason": entry.get("Code")})
    return accepted


@contextmanager
def _failure_logged() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        message = "Could not postpone a message; it returns after the visibility timeout"
        logger().warning(message, extra={"reason": repr(error)})


def _batches(messages: Sequence[Message]) -> Iterator[list[int]]:
    """The indexes of the messages in each call."""
    batch: list[int] = []
    batch_bytes = 0
    for number, message in enumerate(messages):
        message_bytes = len(message.content.encode())
        if batch and (len(batch) == ENTRIES_MAX or batch_bytes + message_bytes > BATCH_BYTES_MAX):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(number)
        batch_bytes += message_bytes
    if batch:
        yield batch


def _entry(number: int, message: Message) -> "SendMessageBatchRequestEntryTypeDef":
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(number),
        "MessageBody": message.content,
        # Fair queues: in a standard queue, the backlog of one group does not delay the others.
        "MessageGroupId": message.endpoint_id or _GROUP_WITHOUT_ENDPOINT,
    }
    if message.delay_seconds:
        entry["DelaySeconds"] = message.delay_seconds
    attributes: dict[str, MessageAttributeValueTypeDef] = {}
    if message.endpoint_id:
        attributes[ENDPOINT] = {"DataType": "String", "StringValue": message.endpoint_id}
    for name, value in ((ATTEMPTS, message.attempts), (DUE_AT, message.due_at)):
        if value:
            attributes[name] = {"DataType": "Number", "StringValue": str(value)}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry


def _receive_dead(limit: int) -> list[DeadLetter]:
    try:
        response = _sqs().receive_message(
            QueueUrl=settings().dead_letter_queue_url,
            MaxNumberOfMessages=limit,
            VisibilityTimeout=_DEAD_LETTER_VISIBILITY_SECONDS,
            WaitTimeSeconds=1,  # long polling, because short polling queries only some servers
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=[ENDPOINT, ATTEMPTS],
        )
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error
    return [_dead_letter(message) for message in response.get("Messages", ())]


def _dead_letter(message: "MessageTypeDef") -> DeadLetter:
    system: Mapping[Any, Any] = message["Attributes"]
    attributes = message.get("MessageAttributes", {})
    attempts = attributes[ATTEMPTS]["StringValue"] if ATTEMPTS in attributes else None
    endpoint_id = attributes[ENDPOINT]["StringValue"] if ENDPOINT in attributes else ""
    return DeadLetter(
        message=Message(message["Body"], endpoint_id),
        attempts=int(attempts or system["ApproximateReceiveCount"]),
        sent_at_ms=int(system["SentTimestamp"]),
        receipt=message["ReceiptHandle"],
    )


def _make_visible(batch: Sequence[DeadLetter]) -> None:
    try:
        _sqs().change_message_visibility_batch(
            QueueUrl=settings().dead_letter_queue_url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": dead.receipt, "VisibilityTimeout": 0}
                for number, dead in enumerate(batch)
            ],
        )
    except (BotoCoreError, ClientError) as error:
        message = "Could not make dead letters visible; the visibility timeout does"
        logger().warning(message, extra={"reason": repr(error)})


def _delete_dead(batch: Sequence[DeadLetter]) -> None:
    if not batch:
        return
    try:
        _sqs().delete_message_batch(
            QueueUrl=settings().dead_letter_queue_url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": dead.receipt}
                for number, dead in enumerate(batch)
            ],
        )
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable from error


@cache
def _sqs() -> "SQSClient":
    """Created at the first use. Its timeouts are shorter than that of the function."""
    config = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("sqs", config=config)
