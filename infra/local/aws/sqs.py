"""SQS queues, and the event source mappings that invoke functions with their messages.

Batching, visibility timeouts, partial batch responses and dead-letter queues work as on AWS:
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
from infra.local.lambdas.pool import Failed, Pool
from infra.local.template.intrinsics import REGION
from infra.local.template.model import Queue, QueueTrigger

BATCH_MAX = 10
LONG_POLL_SECONDS = 1
BUFFERED_MAX = 200
"""Received messages that may wait for an environment."""


def create(aws: Aws, queues: Iterable[Queue]) -> None:
    """Create the queues, dead-letter queues before the queues that refer to them."""
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
        """Start receiving."""
        for mapping in self._mappings:
            mapping.create_task(mapping.receive_forever())

    async def stop(self) -> None:
        """Stop receiving. Messages in progress return after their visibility timeout."""
        await asyncio.gather(*(mapping.stop() for mapping in self._mappings))


class _Mapping:
    """One queue that invokes one function, with at most one batch per environment."""

    def __init__(self, pool: Pool, trigger: QueueTrigger, aws: Aws) -> None:
        self._pool = pool
        self._trigger = trigger
        self._sqs = aws.client("sqs")
        # Half of the environments: a burst that starts all of them waits for all of them.
        self._batches_max = min(trigger.concurrency_max, max(2, pool.environments_max // 2))
        self._buffer: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._oldest_since = 0.0
        self._in_flight: Counter[str] = Counter()
        self._batches = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_space = asyncio.Event()

    def create_task(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive_forever(self) -> None:
        while True:
            while self._buffered() >= BUFFERED_MAX:
                self._has_space.clear()
                await self._has_space.wait()
            try:
                received = await asyncio.to_thread(self._receive)
            except (BotoCoreError, ClientError) as failure:
                self._pool.show(f"cannot reach its queue: {failure}")
                await asyncio.sleep(1)
                continue
            if received and not self._buffered():
                self._oldest_since = time.monotonic()
            for message in received:
                self._buffer[_group(message)].append(message)
            self._dispatch()

    def _buffered(self) -> int:
        return sum(map(len, self._buffer.values()))

    def _receive(self) -> list[dict[str, Any]]:
        response = self._sqs.receive_message(
            QueueUrl=self._trigger.queue_url,
            MaxNumberOfMessages=BATCH_MAX,
            WaitTimeSeconds=LONG_POLL_SECONDS,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(response.get("Messages", ()))

    def _dispatch(self) -> None:
        """Invoke the function with buffered messages while environments are available.

        An incomplete batch waits until the batching window has passed; each poll checks again.
        """
        while (
            self._batches < self._batches_max
            and self._is_batch_due()
            and (batch := self._next_batch())
        ):
            self._in_flight.update(map(_group, batch))
            self._batches += 1
            self.create_task(self._process(batch))
        self._has_space.set()

    def _is_batch_due(self) -> bool:
        age_seconds = time.monotonic() - self._oldest_since
        return (
            self._buffered() >= self._trigger.batch_size
            or age_seconds >= self._trigger.window_seconds
        )

    def _next_batch(self) -> list[dict[str, Any]]:
        """As in a fair queue: messages of the groups with the fewest in progress first.

        The last environment is reserved for groups with nothing in progress, so that they never
        wait for a slow group.
        """
        is_last = 1 < self._batches_max == self._batches + 1
        in_progress = Counter(self._in_flight)
        batch: list[dict[str, Any]] = []
        while len(batch) < self._trigger.batch_size:
            groups = [
                group
                for group, messages in self._buffer.items()
                if messages and not (is_last and self._in_flight[group])
            ]
            if not groups:
                break
            group = min(groups, key=lambda group: in_progress[group])
            batch.append(self._buffer[group].popleft())
            in_progress[group] += 1
        return batch

    async def _process(self, batch: list[dict[str, Any]]) -> None:
        try:
            event = {"Records": [_record(message, self._trigger) for message in batch]}
            result = await self._pool.invoke(json.dumps(event).encode())
            await asyncio.to_thread(self._delete, self._succeeded(batch, result))
        except Failed as failed:
            self._pool.show(f"a batch of {len(batch)} messages will be retried: {failed}")
        except (BotoCoreError, ClientError) as failure:
            self._pool.show(f"cannot reach its queue: {failure}")
        finally:
            self._in_flight.subtract(map(_group, batch))
            self._batches -= 1
        self._dispatch()

    def _succeeded(self, batch: list[dict[str, Any]], result: bytes) -> list[dict[str, Any]]:
        """The messages to delete. None if the result names an unknown message, as on Lambda."""
        if not self._trigger.partial_failures:
            return batch
        failures = (json.loads(result) or {}).get("batchItemFailures", [])
        failed = {failure.get("itemIdentifier") for failure in failures}
        if not failed <= {message["MessageId"] for message in batch}:
            return []
        return [message for message in batch if message["MessageId"] not in failed]

    def _delete(self, messages: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(messages), BATCH_MAX):
            self._sqs.delete_message_batch(
                QueueUrl=self._trigger.queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages[start : start + BATCH_MAX])
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
