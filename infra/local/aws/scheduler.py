"""EventBridge Scheduler: invokes functions at their rates, the first time immediately."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from infra.local.lambdas.pool import Failed, Pool


def event(function: str) -> dict[str, object]:
    """The event of a schedule without an input. As on AWS, `detail` is a string."""
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
    """The schedules of all functions. A failed invocation is logged, and its schedule continues."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the schedules."""
        for pool in self._pools:
            for every_seconds in pool.function.every_seconds:
                self._create_task(self._repeat(pool, every_seconds))

    async def stop(self) -> None:
        """Stop the schedules."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, pool: Pool, every_seconds: int) -> None:
        while True:
            # Not awaited: the next invocation starts on time even if this one is still running.
            self._create_task(self._invoke(pool))
            await asyncio.sleep(every_seconds)

    async def _invoke(self, pool: Pool) -> None:
        try:
            await pool.invoke(json.dumps(event(pool.function.name)).encode())
        except Failed as failed:
            pool.show(f"the scheduled invocation failed: {failed}")

    def _create_task(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
