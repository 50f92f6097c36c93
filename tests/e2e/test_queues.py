"""The queues of the local runtime behave as SQS with the event source mappings of Lambda."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.local import sqs as local_sqs
from infra.local.aws import Aws
from infra.local.lambda_pool import Pool
from infra.local.template.intrinsics import ACCOUNT, REGION
from infra.local.template.model import Function, Queue, QueueTrigger

ROOT = Path(__file__).parent / "functions"
SECONDS_MAX = 60


class Line:
    """A queue with a function, and the log lines of the function."""

    def __init__(self, aws: Aws, name: str) -> None:
        self.sqs = aws.client("sqs")
        self.url = f"{aws.url}/{ACCOUNT}/{name}"
        self.dead_url = f"{aws.url}/{ACCOUNT}/{name}-dead"
        self.said: list[Any] = []
        self.shown: list[str] = []

    def send(self, *wishes: dict[str, Any], group: str = "") -> None:
        for wish in wishes:
            extra = {"MessageGroupId": group} if group else {}
            self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(wish), **extra)

    def show(self, _name: str, line: str) -> None:
        try:
            self.said.append(json.loads(line))
        except ValueError:
            self.shown.append(line)

    def did(self) -> Counter[str]:
        return Counter(said["did"]["name"] for said in self.said)

    def left(self, *, dead: bool = False) -> int:
        """The number of messages in the queue, visible and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.dead_url if dead else self.url
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(map(int, attributes.values()))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - a queue has no event for it
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(
    aws: Aws,
    name: str,
    *,
    environments: int = 2,
    visibility_seconds: int = 1,
    window_seconds: int = 0,
) -> AsyncIterator[Line]:
    """`visibility_seconds`: the delay before an undeleted message is received again."""
    line = Line(aws, name)
    dead_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-dead"
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 3})
    attributes = {"VisibilityTimeout": str(visibility_seconds), "RedrivePolicy": redrive}
    local_sqs.create(aws, [Queue(name, attributes), Queue(f"{name}-dead", {})])
    trigger = QueueTrigger(
        line.url,
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}",
        batch_size=10,
        window_seconds=window_seconds,
        concurrency_max=50,
        partial_failures=True,
    )
    function = Function("Q", ROOT / "queueing", "app.handler", 10, 128, {}, (), (), (trigger,))
    pool = Pool(function, environments, 100, line.show, {})
    mappings = local_sqs.Mappings([pool], aws)
    await pool.start()
    mappings.start()
    try:
        yield line
    finally:
        await mappings.stop()
        await pool.stop()


async def test_processed_messages_are_deleted(own_aws: Aws, name: str) -> None:
    async with running(own_aws, name) as line:
        line.send(*({"name": str(n)} for n in range(25)))
        await line.until(lambda: len(line.said) >= 25 and line.left() == 0)

    assert line.did() == {str(n): 1 for n in range(25)}
    assert max(said["batch"] for said in line.said) <= 10
    assert {said["attempt"] for said in line.said} == {1}


async def test_messages_are_batched_within_the_batching_window(own_aws: Aws, name: str) -> None:
    async with running(own_aws, name, visibility_seconds=30, window_seconds=2) as line:
        for n in range(4):
            await asyncio.to_thread(line.send, {"name": str(n)})
            await asyncio.sleep(0.2)
        await line.until(lambda: len(line.said) == 4 and line.left() == 0)

    assert [said["batch"] for said in line.said] == [4] * 4


async def test_only_failed_messages_of_a_batch_are_retried_and_then_dead_lettered(
    own_aws: Aws, name: str
) -> None:
    async with running(own_aws, name) as line:
        line.send({"name": "good"}, {"name": "bad", "fail": 1}, {"name": "fine"})
        await line.until(lambda: line.left(dead=True) == 1)

        assert line.did() == {"good": 1, "fine": 1, "bad": 3}
        attempts = [said["attempt"] for said in line.said if said["did"]["name"] == "bad"]
        assert attempts == [1, 2, 3]
        assert line.left() == 0


@pytest.mark.parametrize("wish", [{"raise": "no"}, {"answer": "nobody"}, {"answer": ""}])
async def test_an_exception_or_an_invalid_response_returns_the_whole_batch(
    own_aws: Aws, name: str, wish: dict[str, str]
) -> None:
    """As on Lambda, an unknown itemIdentifier fails all messages."""
    async with running(own_aws, name) as line:
        line.send({"name": "good"}, {"name": "odd"} | wish)
        await line.until(lambda: line.left(dead=True) >= 1 and line.left() == 0)

    assert line.did()["odd"] == 3


async def test_a_message_is_received_once_within_its_visibility_timeout(
    own_aws: Aws, name: str
) -> None:
    async with running(own_aws, name, visibility_seconds=30) as line:
        line.send({"name": "long", "sleep_seconds": 2})
        await line.until(lambda: len(line.said) == 1 and line.left() == 0)

    assert line.did() == {"long": 1}


async def test_a_slow_message_group_does_not_block_other_groups(own_aws: Aws, name: str) -> None:
    """As in a fair queue: ninety messages of one group do not block a message of another."""
    async with running(own_aws, name, environments=6, visibility_seconds=200) as line:
        slow = [{"name": f"slow-{n}", "sleep_seconds": 1.5} for n in range(90)]
        await asyncio.to_thread(line.send, *slow, group="slow")
        await line.until(lambda: len(line.said) >= 2)
        for n in range(2):
            await asyncio.to_thread(line.send, {"name": f"quick-{n}"}, group="quick")
            await line.until(lambda n=n: line.did()[f"quick-{n}"] == 1)  # type: ignore[misc]

        begun = sum(said["group"] == "slow" for said in line.said)
        assert begun <= 20, "two slow batches of ten are in progress"


async def test_a_queue_without_partial_failures_treats_any_response_as_success(
    own_aws: Aws, name: str
) -> None:
    trigger = QueueTrigger("", "", 10, 50, partial_failures=False)
    function = Function("Q", ROOT / "queueing", "app.handler", 10, 128, {}, (), (), (trigger,))
    mapping = local_sqs._Mapping(Pool(function, 1, 1, lambda *_: None, {}), trigger, own_aws)
    batch = [{"MessageId": name}]

    assert mapping._done(batch, b'{"batchItemFailures": [{"itemIdentifier": "x"}]}') == batch
    mapping._trigger = replace(trigger, partial_failures=True)
    assert mapping._done(batch, b"null") == batch
    assert mapping._done(batch, json.dumps({}).encode()) == batch


async def test_an_unreachable_queue_server_is_logged_and_stops_nothing(name: str) -> None:
    nowhere = Aws("http://127.0.0.1:9")
    shown: list[str] = []
    trigger = QueueTrigger(f"{nowhere.url}/x/{name}", "", 10, 50, partial_failures=True)
    function = Function("Q", ROOT / "queueing", "app.handler", 10, 128, {}, (), (), (trigger,))
    pool = Pool(function, 1, 1, lambda _, line: shown.append(line), {})
    mappings = local_sqs.Mappings([pool], nowhere)
    mappings.start()
    async with asyncio.timeout(SECONDS_MAX):
        while len(shown) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    await mappings.stop()

    assert "its queue does not answer" in shown[0]


async def test_concurrent_senders_and_receivers_get_each_message_once(
    own_aws: Aws, name: str
) -> None:
    """Without a lock, moto returns some messages twice."""
    sqs = own_aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    received: list[str] = []

    def send(sender: int) -> None:
        for n in range(0, 150, 10):
            bodies = [f"{sender}-{n + k}" for k in range(10)]
            entries = [{"Id": str(k), "MessageBody": body} for k, body in enumerate(bodies)]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def receive() -> None:
        while batch := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2
        ).get("Messages"):
            for message in batch:
                received.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    await asyncio.gather(
        *(asyncio.to_thread(send, sender) for sender in range(4)),
        *(asyncio.to_thread(receive) for _ in range(4)),
    )

    assert Counter(received) == {f"{sender}-{n}": 1 for sender in range(4) for n in range(150)}
