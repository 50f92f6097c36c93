"""A run of the load test against this runtime, as the dashboard starts and watches it.

The load test is a program of its own: its exit code is the verdict, and its lines are for people.
"""

import asyncio
import importlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from infra.local.processes import LINE_BYTES_MAX, kill

LINES_MAX = 200
"""The last lines of a run that are kept."""
VERDICTS = {0: "passed", 1: "failed"}
"""What exit codes say. Every other says that there is none."""
COULD_NOT_RUN = "could not run"


class NotInstalled(Exception):
    """The run was not started: the text names what is not installed."""


class Running(Exception):
    """The run was not started: there is one already."""


@dataclass(slots=True, eq=False)
class BlackFriday:
    """Runs `module`, one run at a time, against the API at `url`."""

    url: str
    module: str
    state: str = "not started"
    resource_id: str = ""
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_MAX))
    _watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a run on a resource of its own. NotInstalled, Running: it was not started."""
        if self.state == "running":
            raise Running
        self._look_for("locust", self.module)
        self.state = "running"
        self.resource_id = f"black-friday-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        self._lines.clear()
        try:
            process = await self._spawn()
        except OSError as error:
            self.state = COULD_NOT_RUN
            self._lines.append(str(error))
            return
        self._watching = asyncio.create_task(self._watch(process))

    def told(self) -> dict[str, Any]:
        """How far it is."""
        return {"state": self.state, "resourceId": self.resource_id, "lines": list(self._lines)}

    async def stop(self) -> None:
        """Kill the run, if there is one."""
        if self._watching:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    @staticmethod
    def _look_for(*modules: str) -> None:
        importlib.invalidate_caches()  # it may have been installed meanwhile
        for module in modules:
            try:
                found = find_spec(module)
            except ModuleNotFoundError:  # a package above it
                found = None
            if found is None:
                raise NotInstalled(module)

    async def _spawn(self) -> Process:
        chosen = {"HOST": self.url, "RESOURCE": self.resource_id, "SHAPE": "blackfriday"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", self.module),
            env=os.environ | chosen,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # so that all that it starts can be killed with it
        )

    async def _watch(self, process: Process) -> None:
        assert process.stdout is not None
        verdict = COULD_NOT_RUN
        try:
            async for line in process.stdout:
                self._lines.append(line.decode(errors="replace").rstrip())
            verdict = VERDICTS.get(await process.wait(), COULD_NOT_RUN)
        finally:
            kill(process)
            await process.wait()
            self.state = verdict
