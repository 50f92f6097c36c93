"""EventBridge Scheduler: calls functions at their rates, the first time at once."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from infra.local.lambda_pool import Failed, Pool


def event(function: str) -> dict[str, object]:
    """What EventBridge Scheduler sends when a schedule has no input: `detail` is a text."""
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "000000000000",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "local",
        "resources": [f"arn:aws:scheduler:local:000000000000:schedule/default/{function}"],
        "detail": "{}",
    }


class Schedules:
    """The schedules of all functions. A call that fails is shown, and does not end its schedule."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to call."""
        for pool in self._pools:
            for every_seconds in pool.function.every_seconds:
                self._begin(self._keep_calling(pool, every_seconds))

    async def stop(self) -> None:
        """Call no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_calling(self, pool: Pool, every_seconds: int) -> None:
        while True:
            # Not waited for: the next call comes on time, also while this one goes on.
            self._begin(self._call(pool))
            await asyncio.sleep(every_seconds)

    async def _call(self, pool: Pool) -> None:
        try:
            await pool.invoke(json.dumps(event(pool.function.name)).encode())
        except Failed as failed:
            pool.show(f"the scheduled call failed: {failed}")

    def _begin(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
