"""The border to SQS: events on their way to endpoints, their retries, and dead letters.

Sends in batches and checks the result of each entry. Never loaded on the path of a reserve.
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
"""In one call of SQS."""
BATCH_BYTES_MAX = 250_000
"""In one call of SQS, with room for attributes. SQS itself takes four times that."""
ENDPOINT = "endpointId"
"""The attribute with the endpoint of a message."""
ATTEMPTS = "attempts"
"""The attribute with the attempts that were made while the message was in another queue."""
DUE_AT = "dueAt"
"""The attribute of a message whose first receipt is before its next attempt is due."""
SEND_DELAY_SECONDS_MAX = 900
"""The longest DelaySeconds of SQS."""
_OF_NO_ENDPOINT = "events"
_LOOK_SECONDS = 20
"""How long a dead letter that is being looked at stays hidden from others who look."""


def send(messages: Sequence[Message]) -> list[bool]:
    """Send the messages, and return for each whether the queue has it. A repeat sends them again.

    Failures are logged. After a time-out, a message may be in the queue although it is False here.
    """
    return _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().webhook_queue_url, Entries=entries
        ),
        messages,
    )


def send_to_retry(message: Message) -> bool:
    """Send a message to the queue of retries and slow endpoints, and return whether it has it."""
    (taken,) = _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().webhook_retry_queue_url, Entries=entries
        ),
        [message],
    )
    return taken


def give_up(message: Message) -> bool:
    """Make a message a dead letter, and return whether it is one now."""
    (taken,) = _send(
        lambda entries: _sqs().send_message_batch(
            QueueUrl=settings().dead_letter_queue_url, Entries=entries
        ),
        [message],
    )
    return taken


def postpone(receipt: str, delay_seconds: int) -> None:
    """Hide a message of the queue of first attempts for so long.

    If that fails, it is back after the visibility timeout of its queue.
    """
    with _lateness_logged():
        _sqs().change_message_visibility(
            QueueUrl=settings().webhook_queue_url,
            ReceiptHandle=receipt,
            VisibilityTimeout=delay_seconds,
        )


def postpone_retry(receipt: str, delay_seconds: int) -> None:
    """The same with a message of the queue of retries and slow endpoints."""
    with _lateness_logged():
        _sqs().change_message_visibility(
            QueueUrl=settings().webhook_retry_queue_url,
            ReceiptHandle=receipt,
            VisibilityTimeout=delay_seconds,
        )


def list_dead_letters(limit: int) -> list[DeadLetter]:
    """At most `limit` messages that were given up. They stay.

    SQS tells of a sample: what somebody else looks at in this moment is not in it.

    Raises:
        ServiceUnavailable: SQS did not answer.
    """
    found: list[DeadLetter] = []
    try:
        while len(found) < limit and (batch := _receive_dead(min(ENTRIES_MAX, limit - len(found)))):
            found += batch
    finally:
        for start in range(0, len(found), ENTRIES_MAX):
            _show_again(found[start : start + ENTRIES_MAX])
    return found


def resend_dead_letters(endpoint_id: str, limit: int) -> int:
    """Give messages that were given up their attempts anew, all or those of one endpoint.

    At most `limit` of them; how many is returned. A repeat goes on with the rest. After a crash or
    a failure one may be sent twice, under its one id, and none is lost.

    Raises:
        ServiceUnavailable: SQS did not answer.
    """
    others: list[DeadLetter] = []
    resent = 0
    until = time.monotonic() + _LOOK_SECONDS / 2
    try:
        while (
            resent < limit
            and time.monotonic() < until
            and (batch := _receive_dead(min(ENTRIES_MAX, limit - resent)))
        ):
            chosen = [dead for dead in batch if endpoint_id in ("", dead.message.endpoint_id)]
            others += [dead for dead in batch if dead not in chosen]
            taken = send([dead.message for dead in chosen])
            _delete_dead([dead for dead, was in zip(chosen, taken, strict=True) if was])
            resent += sum(taken)
    finally:
        for start in range(0, len(others), ENTRIES_MAX):
            _show_again(others[start : start + ENTRIES_MAX])
    return resent


_SendBatch = Callable[[Sequence["SendMessageBatchRequestEntryTypeDef"]], Mapping[str, Any]]


def _send(send_batch: _SendBatch, messages: Sequence[Message]) -> list[bool]:
    taken = [False] * len(messages)
    for batch in _batches(messages):
        try:
            answer = send_batch([_entry(number, messages[number]) for number in batch])
        except (BotoCoreError, ClientError) as failure:
            logger().warning("A batch was not sent", extra={"reason": repr(failure)})
            continue
        for sent in answer.get("Successful", ()):
            taken[int(sent["Id"])] = True
        for failed in answer.get("Failed", ()):
            logger().warning("A message was not sent", extra={"reason": failed.get("Code")})
    return taken


@contextmanager
def _lateness_logged() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as failure:
        reason = {"reason": repr(failure)}
        logger().warning("A retry waits for the visibility timeout", extra=reason)


def _batches(messages: Sequence[Message]) -> Iterator[list[int]]:
    """The numbers of the messages that go into each call."""
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
        # In a standard queue, SQS does not let one group's backlog delay the others (fair queues).
        "MessageGroupId": message.endpoint_id or _OF_NO_ENDPOINT,
    }
    if message.delay_seconds:
        entry["DelaySeconds"] = message.delay_seconds
    attributes: dict[str, MessageAttributeValueTypeDef] = {}
    if message.endpoint_id:
        attributes[ENDPOINT] = {"DataType": "String", "StringValue": message.endpoint_id}
    for name, number_of in ((ATTEMPTS, message.attempts), (DUE_AT, message.due_at)):
        if number_of:
            attributes[name] = {"DataType": "Number", "StringValue": str(number_of)}
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry


def _receive_dead(limit: int) -> list[DeadLetter]:
    try:
        answer = _sqs().receive_message(
            QueueUrl=settings().dead_letter_queue_url,
            MaxNumberOfMessages=limit,
            VisibilityTimeout=_LOOK_SECONDS,
            WaitTimeSeconds=1,  # without a wait, SQS asks only some of its servers
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=[ENDPOINT, ATTEMPTS],
        )
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure
    return [_dead_letter(message) for message in answer.get("Messages", ())]


def _dead_letter(message: "MessageTypeDef") -> DeadLetter:
    attributes: Mapping[Any, Any] = message["Attributes"]
    own = message.get("MessageAttributes", {})
    attempts = own[ATTEMPTS]["StringValue"] if ATTEMPTS in own else None
    return DeadLetter(
        message=Message(message["Body"], own[ENDPOINT]["StringValue"] if ENDPOINT in own else ""),
        attempts=int(attempts or attributes["ApproximateReceiveCount"]),
        sent_at_ms=int(attributes["SentTimestamp"]),
        receipt=message["ReceiptHandle"],
    )


def _show_again(batch: Sequence[DeadLetter]) -> None:
    try:
        _sqs().change_message_visibility_batch(
            QueueUrl=settings().dead_letter_queue_url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": dead.receipt, "VisibilityTimeout": 0}
                for number, dead in enumerate(batch)
            ],
        )
    except (BotoCoreError, ClientError) as failure:
        logger().warning("Dead letters stay hidden a while", extra={"reason": repr(failure)})


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
    except (BotoCoreError, ClientError) as failure:
        raise ServiceUnavailable from failure


@cache
def _sqs() -> "SQSClient":
    """Made with the first use. Gives up before the time of the function is up."""
    patience = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("sqs", config=patience)
