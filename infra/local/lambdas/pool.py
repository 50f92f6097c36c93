"""The pool of Lambda execution environments of a function, and the Runtime API that they poll.

Each environment handles one event at a time. The pool starts one per concurrent event, up to a
limit; further events wait in a queue.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web

from infra.local.lambdas.environment import Environment, Invocation, spawn
from infra.local.processes import kill
from infra.local.template.model import Function

_ARN_PREFIX = "arn:aws:lambda:eu-central-1:000000000000:function:"
ShowLine = Callable[[str, str], None]
"""Takes the name of an environment, and a line of its output."""


class Failed(Exception):
    """The invocation failed. The message says why."""


class TimedOut(Failed):
    """The invocation exceeded the timeout of its function."""


class Overloaded(Failed):
    """The event was rejected: the queue is full."""


class Pool:
    """The execution environments of one function.

    `lambda_variables`: environment variables that Lambda itself sets, such as credentials.
    """

    def __init__(
        self,
        function: Function,
        environments_max: int,
        queued_max: int,
        show_line: ShowLine,
        lambda_variables: Mapping[str, str],
    ) -> None:
        self.function = function
        self.environments_max = environments_max
        self._lambda_variables = lambda_variables
        self._queued_max = queued_max
        self._show_line = show_line
        self._environments: dict[int, Environment] = {}  # by the port that its runtime calls
        self._idle: list[Environment] = []
        self._queue: deque[Invocation] = deque()
        self._starting = 0
        self._started_ever = 0
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.take_wait_seconds: Callable[[float], object] = lambda _: None
        """Called for each event with the time that it waited for an environment."""
        # Cancel the pending poll of a runtime that has died.
        self._runner = web.AppRunner(
            self._runtime_api(), access_log=None, handler_cancellation=True
        )

    async def start(self) -> None:
        """Start the Runtime API. Environments start on demand."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Kill all environments, as Lambda does, and wait until they have exited."""
        self._stopped = True
        for environment in self._environments.values():
            kill(environment.process)
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._runner.cleanup()

    @property
    def queued(self) -> int:
        """The number of events that wait for an environment."""
        return len(self._queue)

    def states(self) -> dict[str, int]:
        """The number of environments per state."""
        starting, idle = self._starting, len(self._idle)
        return {
            "starting": starting,
            "idle": idle,
            "busy": len(self._watchers) - starting - idle,
        }

    def show(self, line: str) -> None:
        """Show a line about the function."""
        self._show_line(self.function.name, line)

    async def invoke(self, event: bytes) -> bytes:
        """Have an environment handle the event, and return the result of the handler.

        Raises:
            Failed: the handler raised, or its process died or could not be started.
            TimedOut: the timeout of the function was exceeded, and the environment killed.
            Overloaded: the queue is full.
        """
        invocation = Invocation(event, asyncio.get_running_loop().create_future())
        if self._idle:
            # Most recently used first, so that under low load the others stay unused.
            self._assign(self._idle.pop(), invocation)
        elif len(self._queue) >= self._queued_max:
            raise Overloaded(f"{self._queued_max} events wait for {self.function.name}")
        else:
            self._queue.append(invocation)
            self._grow()
        try:
            return await invocation.result
        finally:
            with suppress(ValueError):
                self._queue.remove(invocation)  # the caller was cancelled before its turn

    def _grow(self) -> None:
        """Start another environment if more events wait than environments are starting."""
        if (
            not self._stopped
            and len(self._watchers) < self.environments_max
            and len(self._queue) > self._starting
        ):
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._run())
            self._watchers.add(task)
            task.add_done_callback(self._on_exit)

    def _on_exit(self, watcher: asyncio.Task[None]) -> None:
        """Start a replacement if events wait."""
        self._watchers.discard(watcher)
        self._grow()

    async def _run(self) -> None:
        """Run one environment until it exits."""
        self._started_ever += 1
        name = f"{self.function.name}#{self._started_ever}"
        port_socket = socket.create_server(("127.0.0.1", 0))
        port: int = port_socket.getsockname()[1]
        site = web.SockSite(self._runner, port_socket)
        await site.start()
        process = await spawn(self.function, name, port, self._lambda_variables)
        environment = Environment(name, process, site)
        self._environments[port] = environment
        try:
            await self._show_lines(environment)
            await process.wait()
        finally:
            del self._environments[port]
            self._clean_up(environment)
            await site.stop()

    def _clean_up(self, environment: Environment) -> None:
        """Fail the invocation of an environment that has exited."""
        if not environment.started:
            self._starting -= 1
        if environment in self._idle:
            self._idle.remove(environment)
        lost = environment.current or self._lost_before_start(environment)
        if lost is not None and not lost.result.done():
            lost.result.set_exception(self._exit_error(environment))
        if environment.timer is not None:
            environment.timer.cancel()

    def _lost_before_start(self, environment: Environment) -> Invocation | None:
        """The queued event that fails with a failed start.

        Otherwise a broken function would be restarted forever. As on Lambda, each event causes one
        start.
        """
        if environment.started or not self._queue:
            return None
        return self._queue.popleft()

    def _exit_error(self, environment: Environment) -> Failed:
        if environment.timed_out:
            return TimedOut(f"{environment.name} took over {self.function.timeout_seconds} s")
        if environment.init_error:
            return Failed(f"{environment.name} could not start: {environment.init_error}")
        return Failed(f"{environment.name} exited with code {environment.process.returncode}")

    async def _show_lines(self, environment: Environment) -> None:
        assert environment.process.stdout is not None
        async for line in environment.process.stdout:
            self._show_line(environment.name, line.decode(errors="replace").rstrip())

    def _assign(self, environment: Environment, invocation: Invocation) -> None:
        self.take_wait_seconds(time.monotonic() - invocation.queued_at)
        environment.current = invocation
        environment.assigned.put_nowait(invocation)

    def _runtime_api(self) -> web.Application:
        app = web.Application(client_max_size=6_291_556)  # Lambda's limit of a response
        prefix = "/2018-06-01/runtime"
        app.router.add_get(f"{prefix}/invocation/next", self._next)
        app.router.add_post(f"{prefix}/invocation/{{id}}/response", self._response)
        app.router.add_post(f"{prefix}/invocation/{{id}}/error", self._error)
        app.router.add_post(f"{prefix}/init/error", self._init_error)
        return app

    def _environment_of(self, request: web.Request) -> Environment:
        assert request.transport is not None
        return self._environments[request.transport.get_extra_info("sockname")[1]]

    async def _next(self, request: web.Request) -> web.Response:
        """The runtime is ready: return a queued event, or wait for the next one."""
        environment = self._environment_of(request)
        if not environment.started:
            environment.started = True
            self._starting -= 1
        if self._queue:
            self._assign(environment, self._queue.popleft())
        else:
            self._idle.append(environment)
        invocation = await environment.assigned.get()
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
                "Lambda-Runtime-Invoked-Function-Arn": _ARN_PREFIX + self.function.name,
            },
        )

    async def _response(self, request: web.Request) -> web.Response:
        body = await request.read()
        invocation = self._finish(self._environment_of(request))
        if not invocation.result.done():
            invocation.result.set_result(body)
        return web.Response(status=202)

    async def _error(self, request: web.Request) -> web.Response:
        body = await request.read()
        environment = self._environment_of(request)
        invocation = self._finish(environment)
        error = _error_text(body)
        self._show_line(environment.name, error)
        if not invocation.result.done():
            invocation.result.set_exception(Failed(error))
        return web.Response(status=202)

    async def _init_error(self, request: web.Request) -> web.Response:
        environment = self._environment_of(request)
        environment.init_error = _error_text(await request.read())
        self._show_line(environment.name, environment.init_error)
        return web.Response(status=202)

    def _finish(self, environment: Environment) -> Invocation:
        invocation = environment.current
        assert invocation is not None, "a runtime responds only to its current invocation"
        assert environment.timer is not None
        environment.timer.cancel()
        environment.current = None
        return invocation

    def _time_out(self, environment: Environment) -> None:
        environment.timed_out = True
        kill(environment.process)


def _error_text(body: bytes) -> str:
    """Type, message and stack trace of the error that a runtime client reported."""
    error = json.loads(body)
    trace = "".join(error.get("stackTrace") or [])
    return f"{error.get('errorType')}: {error.get('errorMessage')}\n{trace}".rstrip()


def _trace(invocation_id: str) -> str:
    """An X-Ray trace header. No traces are collected locally."""
    unique = invocation_id.replace("-", "")[:24]
    return f"Root=1-{int(time.time()):08x}-{unique};Sampled=0"
