"""Lambda execution environments: processes of their own that run AWS's runtime client.

Each handles one event at a time and asks for the next over the Lambda Runtime API, which stands
here. As many are started as there are events at once, up to a limit; further events wait.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp import web

from infra.local.processes import kill, spawn
from infra.local.template.model import Function

_ARN = "arn:aws:lambda:eu-central-1:000000000000:function:"
Print = Callable[[str, str], None]
"""Takes the name of an environment and a line that it wrote."""


class Failed(Exception):
    """The event was not answered: the text says what became of the environment."""


class TimedOut(Failed):
    """The event was not answered within the timeout of its function."""


class Overloaded(Failed):
    """The event was not taken: as many as may wait do so already."""


@dataclass(slots=True, eq=False)
class _Invocation:
    event: bytes
    answered: asyncio.Future[bytes]
    since: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(slots=True, eq=False)
class _Environment:
    name: str
    process: asyncio.subprocess.Process
    site: web.SockSite
    work: asyncio.Queue[_Invocation] = field(default_factory=lambda: asyncio.Queue(1))
    current: _Invocation | None = None
    timer: asyncio.TimerHandle | None = None
    started: bool = False
    timed_out: bool = False
    init_error: str = ""


class Pool:
    """The execution environments of one function.

    `of_lambda`: variables that Lambda sets, not the template, such as credentials.
    """

    def __init__(
        self,
        function: Function,
        environments_max: int,
        waiting_max: int,
        show: Print,
        of_lambda: Mapping[str, str],
    ) -> None:
        self.function = function
        self.environments_max = environments_max
        self._of_lambda = of_lambda
        self._waiting_max = waiting_max
        self._show = show
        self._environments: dict[int, _Environment] = {}  # by the port that its runtime calls
        self._idle: list[_Environment] = []
        self._waiting: deque[_Invocation] = deque()
        self._starting = 0
        self._started_ever = 0
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.take_wait_seconds: Callable[[float], object] = lambda _: None
        """Told of each event how long it waited for an environment."""
        # A runtime that has died waits for nothing: its request is cancelled.
        self._runner = web.AppRunner(
            self._runtime_api(), access_log=None, handler_cancellation=True
        )

    async def start(self) -> None:
        """Open the Runtime API. Environments start with the first event."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Kill all environments, as Lambda does, and wait until they are gone."""
        self._stopped = True
        for environment in self._environments.values():
            kill(environment.process)
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._runner.cleanup()

    @property
    def waiting(self) -> int:
        """How many events wait for an environment."""
        return len(self._waiting)

    def states(self) -> dict[str, int]:
        """How many environments there are in each state."""
        starting, idle = self._starting, len(self._idle)
        return {
            "starting": starting,
            "idle": idle,
            "busy": len(self._watchers) - starting - idle,
        }

    def show(self, line: str) -> None:
        """Show a line that is about the function."""
        self._show(self.function.name, line)

    async def invoke(self, event: bytes) -> bytes:
        """Have an environment handle the event, and return what the handler returned.

        Raises:
            Failed: the handler raised, its process died, or it could not be started.
            TimedOut: it took longer than the function may; its environment was killed.
            Overloaded: too many events wait already.
        """
        invocation = _Invocation(event, asyncio.get_running_loop().create_future())
        if self._idle:
            # The one that was used last, so that in quiet times the others stay unused.
            self._hand_over(self._idle.pop(), invocation)
        elif len(self._waiting) >= self._waiting_max:
            raise Overloaded(f"{self._waiting_max} events wait for {self.function.name}")
        else:
            self._waiting.append(invocation)
            self._grow()
        try:
            return await invocation.answered
        finally:
            with suppress(ValueError):
                self._waiting.remove(invocation)  # the caller gave up before its turn

    def _grow(self) -> None:
        """Start another environment, if more events wait than environments are starting."""
        if (
            not self._stopped
            and len(self._watchers) < self.environments_max
            and len(self._waiting) > self._starting
        ):
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._run())
            self._watchers.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, watcher: asyncio.Task[None]) -> None:
        """There is room for another environment, if events wait."""
        self._watchers.discard(watcher)
        self._grow()

    async def _run(self) -> None:
        """One environment, from its start to its end."""
        self._started_ever += 1
        name = f"{self.function.name}#{self._started_ever}"
        port_socket = socket.create_server(("127.0.0.1", 0))
        port: int = port_socket.getsockname()[1]
        site = web.SockSite(self._runner, port_socket)
        await site.start()
        process = await spawn(self.function, name, port, self._of_lambda)
        environment = _Environment(name, process, site)
        self._environments[port] = environment
        try:
            await self._show_lines(environment)
            await process.wait()
        finally:
            del self._environments[port]
            self._mourn(environment)
            await site.stop()

    def _mourn(self, environment: _Environment) -> None:
        """Answer for an environment that has ended."""
        if not environment.started:
            self._starting -= 1
        if environment in self._idle:
            self._idle.remove(environment)
        lost = environment.current or self._lost_before_start(environment)
        if lost is not None and not lost.answered.done():
            lost.answered.set_exception(self._cause_of_death(environment))
        if environment.timer is not None:
            environment.timer.cancel()

    def _lost_before_start(self, environment: _Environment) -> _Invocation | None:
        """The event that a failed start costs.

        Without it, a broken function would be restarted for ever; each event gets its try, as on
        Lambda.
        """
        if environment.started or not self._waiting:
            return None
        return self._waiting.popleft()

    def _cause_of_death(self, environment: _Environment) -> Failed:
        if environment.timed_out:
            return TimedOut(f"{environment.name} took over {self.function.timeout_seconds} s")
        if environment.init_error:
            return Failed(f"{environment.name} could not start: {environment.init_error}")
        return Failed(f"{environment.name} ended with code {environment.process.returncode}")

    async def _show_lines(self, environment: _Environment) -> None:
        assert environment.process.stdout is not None
        async for line in environment.process.stdout:
            self._show(environment.name, line.decode(errors="replace").rstrip())

    def _hand_over(self, environment: _Environment, invocation: _Invocation) -> None:
        self.take_wait_seconds(time.monotonic() - invocation.since)
        environment.current = invocation
        environment.work.put_nowait(invocation)

    def _runtime_api(self) -> web.Application:
        app = web.Application(client_max_size=6_291_556)  # Lambda's own limit of an answer
        prefix = "/2018-06-01/runtime"
        app.router.add_get(f"{prefix}/invocation/next", self._next)
        app.router.add_post(f"{prefix}/invocation/{{id}}/response", self._response)
        app.router.add_post(f"{prefix}/invocation/{{id}}/error", self._error)
        app.router.add_post(f"{prefix}/init/error", self._init_error)
        return app

    def _caller(self, request: web.Request) -> _Environment:
        assert request.transport is not None
        return self._environments[request.transport.get_extra_info("sockname")[1]]

    async def _next(self, request: web.Request) -> web.Response:
        """The runtime is ready: it gets an event that waits, or the next one that comes."""
        environment = self._caller(request)
        if not environment.started:
            environment.started = True
            self._starting -= 1
        if self._waiting:
            self._hand_over(environment, self._waiting.popleft())
        else:
            self._idle.append(environment)
        invocation = await environment.work.get()
        timeout_seconds = self.function.timeout_seconds
        loop = asyncio.get_running_loop()
        environment.timer = loop.call_later(timeout_seconds, self._time_out, environment)
        return web.Response(
            body=invocation.event,
            content_type="application/json",
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Trace-Id": _trace(invocation.id),
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout_seconds) * 1_000)),
                "Lambda-Runtime-Invoked-Function-Arn": _ARN + self.function.name,
            },
        )

    async def _response(self, request: web.Request) -> web.Response:
        body = await request.read()
        invocation = self._finish(self._caller(request))
        if not invocation.answered.done():
            invocation.answered.set_result(body)
        return web.Response(status=202)

    async def _error(self, request: web.Request) -> web.Response:
        body = await request.read()
        environment = self._caller(request)
        invocation = self._finish(environment)
        self._show(environment.name, _told(body))
        if not invocation.answered.done():
            invocation.answered.set_exception(Failed(_told(body)))
        return web.Response(status=202)

    async def _init_error(self, request: web.Request) -> web.Response:
        environment = self._caller(request)
        environment.init_error = _told(await request.read())
        self._show(environment.name, environment.init_error)
        return web.Response(status=202)

    def _finish(self, environment: _Environment) -> _Invocation:
        invocation = environment.current
        assert invocation is not None, "a runtime answers only what it was handed"
        assert environment.timer is not None
        environment.timer.cancel()
        environment.current = None
        return invocation

    def _time_out(self, environment: _Environment) -> None:
        environment.timed_out = True
        kill(environment.process)


def _told(body: bytes) -> str:
    """The error as the runtime client reports it, in lines."""
    told = json.loads(body)
    trace = "".join(told.get("stackTrace") or [])
    return f"{told.get('errorType')}: {told.get('errorMessage')}\n{trace}".rstrip()


def _trace(invocation_id: str) -> str:
    """As X-Ray's header has it; nothing collects traces here."""
    unique = invocation_id.replace("-", "")[:24]
    return f"Root=1-{int(time.time()):08x}-{unique};Sampled=0"
