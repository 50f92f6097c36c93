"""SQS as Lambda's event source: queues, and functions that are called with what is in them.

Batches, visibility, partial failures and dead letters as there:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import asyncio
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.aws import Aws
from infra.local.lambda_pool import Failed, Pool
from infra.local.template.intrinsics import REGION
from infra.local.template.model import Queue, QueueTrigger

RECEIVED_AT_ONCE = 10
LONG_POLL_SECONDS = 1
WAITING_MAX = 200
"""Messages that were received and wait for an environment."""


def create(aws: Aws, queues: Iterable[Queue]) -> None:
    """Make the queues: those first that others give their dead letters to."""
    sqs = aws.client("sqs")
    for queue in sorted(queues, key=lambda queue: "RedrivePolicy" in queue.attributes):
        sqs.create_queue(QueueName=queue.name, Attributes=dict(queue.attributes))


class Mappings:
    """The event source mappings of all functions."""

    def __init__(self, pools: Sequence[Pool], aws: Aws) -> None:
        self._mappings = [
            _Mapping(pool, trigger, aws) for pool in pools for trigger in pool.function.queues
        ]

    def start(self) -> None:
        """Begin to receive."""
        for mapping in self._mappings:
            mapping.begin(mapping.keep_receiving())

    async def stop(self) -> None:
        """Receive no more, and leave what is under way to come back."""
        await asyncio.gather(*(mapping.stop() for mapping in self._mappings))


class _Mapping:
    """One queue that calls one function, with a batch in each environment at most."""

    def __init__(self, pool: Pool, trigger: QueueTrigger, aws: Aws) -> None:
        self._pool = pool
        self._trigger = trigger
        self._sqs = aws.client("sqs")
        # Half of the environments: a burst that starts them all at once waits for all of them.
        self._slots = min(trigger.concurrency_max, max(2, pool.environments_max // 2))
        self._waiting: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._waiting_since = 0.0
        self._in_flight: Counter[str] = Counter()
        self._batches = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()

    def begin(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def keep_receiving(self) -> None:
        while True:
            while self._count_waiting() >= WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            try:
                received = await asyncio.to_thread(self._receive)
            except (BotoCoreError, ClientError) as failure:
                self._pool.show(f"its queue does not answer: {failure}")
                await asyncio.sleep(1)
                continue
            if received and not self._count_waiting():
                self._waiting_since = time.monotonic()
            for message in received:
                self._waiting[_group(message)].append(message)
            self._hand_over()

    def _count_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._trigger.queue_url,
            MaxNumberOfMessages=RECEIVED_AT_ONCE,
            WaitTimeSeconds=LONG_POLL_SECONDS,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", ()))

    def _hand_over(self) -> None:
        """Call the function with what waits, as long as there are environments for it.

        Less than a batch waits for more, as long as the window says; each poll looks anew.
        """
        while self._batches < self._slots and self._is_time() and (batch := self._next_batch()):
            self._in_flight.update(map(_group, batch))
            self._batches += 1
            self.begin(self._carry_out(batch))
        self._room.set()

    def _is_time(self) -> bool:
        waited_seconds = time.monotonic() - self._waiting_since
        return (
            self._count_waiting() >= self._trigger.batch_size
            or waited_seconds >= self._trigger.window_seconds
        )

    def _next_batch(self) -> list[dict[str, Any]]:
        """As a fair queue does it: of the groups with the least under way first.

        The last environment is for groups that have nothing under way, so that they never wait for
        one that is slow.
        """
        last_one = 1 < self._slots == self._batches + 1
        under_way = Counter(self._in_flight)
        batch: list[dict[str, Any]] = []
        while len(batch) < self._trigger.batch_size:
            groups = [
                group
                for group, messages in self._waiting.items()
                if messages and not (last_one and self._in_flight[group])
            ]
            if not groups:
                break
            group = min(groups, key=lambda group: under_way[group])
            batch.append(self._waiting[group].popleft())
            under_way[group] += 1
        return batch

    async def _carry_out(self, batch: list[dict[str, Any]]) -> None:
        try:
            event = {"Records": [_record(message, self._trigger) for message in batch]}
            answer = await self._pool.invoke(json.dumps(event).encode())
            await asyncio.to_thread(self._delete, self._done(batch, answer))
        except Failed as failed:
            self._pool.show(f"a batch of {len(batch)} messages comes back: {failed}")
        except (BotoCoreError, ClientError) as failure:
            self._pool.show(f"its queue does not answer: {failure}")
        finally:
            self._in_flight.subtract(map(_group, batch))
            self._batches -= 1
        self._hand_over()

    def _done(self, batch: list[dict[str, Any]], answer: bytes) -> list[dict[str, Any]]:
        """The messages that need not come back. An answer that is not understood: none."""
        if not self._trigger.partial_failures:
            return batch
        failures = (json.loads(answer) or {}).get("batchItemFailures", [])
        failed = {failure.get("itemIdentifier") for failure in failures}
        if not failed <= {message["MessageId"] for message in batch}:
            return []
        return [message for message in batch if message["MessageId"] not in failed]

    def _delete(self, messages: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(messages), RECEIVED_AT_ONCE):
            self._sqs.delete_message_batch(
                QueueUrl=self._trigger.queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages[start : start + RECEIVED_AT_ONCE])
                ],
            )


def _group(message: Mapping[str, Any]) -> str:
    return str(message["Attributes"].get("MessageGroupId", ""))


def _record(message: Mapping[str, Any], trigger: QueueTrigger) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {
                "stringValue": value.get("StringValue"),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value["DataType"],
            }
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": trigger.queue_arn,
        "awsRegion": REGION,
    }
