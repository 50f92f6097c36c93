"""A slow or unreachable endpoint does not delay others, and still receives its own events."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from infra.local.aws import Aws
from openreserve.domain.webhooks import Message
from openreserve.webhooks import queue
from tests.e2e.delivering import deliveries_run, save
from tests.support.deliveries import event
from tests.support.receiver import CommandError, Received, Receiver

EVENTS = 20
EXECUTIONS = 4
"""Concurrent executions for first attempts: half of the environments of the function."""
SECONDS_MAX = 120


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not holds():  # noqa: ASYNC110 - the receiver is a thread
            await asyncio.sleep(0.02)


async def send(count: int) -> None:
    assert all(await asyncio.to_thread(queue.send, [Message(event()) for _ in range(count)]))


async def test_a_slow_endpoint_does_not_delay_a_fast_one(
    own_aws: Aws, receiver: Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast endpoint receives all events before the slow one answers its first one."""
    answers = threading.Event()

    def slowly(_: Received) -> CommandError:
        answers.wait(SECONDS_MAX)
        return CommandError(204)

    receiver.answers["/slow"] = slowly
    async with deliveries_run(
        own_aws, name, monkeypatch, environments=2 * EXECUTIONS, WebhookTimeoutSeconds="20"
    ):
        save("quick", f"{receiver.url}/quick")
        await send(1)
        await until(lambda: len(receiver.at("/quick")) == 1)
        save("slow", f"{receiver.url}/slow")
        await asyncio.sleep(1.1)  # the endpoint cache of the function expires
        await send(EVENTS)
        await until(lambda: len(receiver.at("/quick")) == 1 + EVENTS)

        assert 1 <= len(receiver.at("/slow")) < EXECUTIONS, "each blocks one execution"
        answers.set()
        await until(lambda: len(receiver.ids("/slow")) == EVENTS)
