"""Runs the load test against this runtime for the dashboard.

The load test is a separate process: its exit code is the verdict, its output is shown to users.
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
"""Output lines that are kept, the latest ones."""
VERDICTS = {0: "passed", 1: "failed"}
"""Verdict by exit code. Any other exit code: could not run."""
COULD_NOT_RUN = "could not run"


class NotInstalled(Exception):
    """The run was not started: a module is not installed. The message names it."""


class AlreadyRunning(Exception):
    """The run was not started: another one is in progress."""


@dataclass(slots=True, eq=False)
class BlackFriday:
    """Runs `module` against the API at `url`, one run at a time."""

    url: str
    module: str
    state: str = "not started"
    resource_id: str = ""
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_MAX))
    _watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a run on a new resource.

        Raises:
            AlreadyRunning: another run is in progress.
            NotInstalled: a module is missing.
        """
        if self.state == "running":
            raise AlreadyRunning
        self._require("locust", self.module)
        self.state = "running"
        self.resource_id = f"black-friday-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        self._lines.clear()
        try:
            process = await self._spawn()
        except OSError as error:
            self.state = COULD_NOT_RUN
            self._lines.append(str(error))
            return
        self._watcher = asyncio.create_task(self._watch(process))

    def status(self) -> dict[str, Any]:
        """State, resource and latest output of the run."""
        return {"state": self.state, "resourceId": self.resource_id, "lines": list(self._lines)}

    async def stop(self) -> None:
        """Kill the run, if there is one."""
        if self._watcher:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher

    @staticmethod
    def _require(*modules: str) -> None:
        importlib.invalidate_caches()  # it may have been installed since the start
        for module in modules:
            try:
                spec = find_spec(module)
            except ModuleNotFoundError:  # its parent package is missing
                spec = None
            if spec is None:
                raise NotInstalled(module)

    async def _spawn(self) -> Process:
        parameters = {"HOST": self.url, "RESOURCE": self.resource_id, "SHAPE": "blackfriday"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", self.module),
            env=os.environ | parameters,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # so that its child processes can be killed with it
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
