"""An execution environment of a Lambda function: a process that runs a Runtime API client."""

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from infra.local.processes import LINE_BYTES_MAX
from infra.local.template.model import Function


@dataclass(slots=True, eq=False)
class Invocation:
    """An event, and the future of its result."""

    event: bytes
    result: asyncio.Future[bytes]
    queued_at: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(slots=True, eq=False)
class Environment:
    """The process of an environment, and the state of the Runtime API towards it."""

    name: str
    process: asyncio.subprocess.Process
    site: web.SockSite
    assigned: asyncio.Queue[Invocation] = field(default_factory=lambda: asyncio.Queue(1))
    current: Invocation | None = None
    timer: asyncio.TimerHandle | None = None
    started: bool = False
    timed_out: bool = False
    init_error: str = ""


async def spawn(
    function: Function, name: str, port: int, lambda_variables: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a runtime client with the function's handler. It polls the Runtime API at the port."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *_runtime_client(),
        function.handler,
        cwd=function.code,
        env=environment_variables(function, name, port) | dict(lambda_variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # so that Ctrl-C in the terminal reaches only the runtime
    )


def _runtime_client() -> tuple[str, ...]:
    """awslambdaric; runtime_client.py if that is not installed, or RUNTIME_CLIENT=openreserve."""
    has_awslambdaric = all(map(importlib.util.find_spec, ("awslambdaric", "runtime_client")))
    if has_awslambdaric and os.environ.get("RUNTIME_CLIENT") != "openreserve":
        return "-m", "awslambdaric"
    return "-P", str(Path(__file__).with_name("runtime_client.py"))


def environment_variables(function: Function, name: str, port: int) -> dict[str, str]:
    """The variables that Lambda and the template set. All others of this machine are left out."""
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    return inherited | {
        "TZ": ":UTC",
        "_HANDLER": function.handler,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": name,
        "LAMBDA_TASK_ROOT": str(Path(function.code).resolve()),
        **function.environment,
    }
