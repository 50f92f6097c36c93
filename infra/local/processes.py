"""The process of an execution environment: what it is started with, and how it ends."""

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.template.model import Function

LINE_BYTES_MAX = 1 << 20
"""As much as one log line may have: a traceback in one JSON document."""


async def spawn(
    function: Function, name: str, port: int, of_lambda: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a runtime client with the function's handler; it asks for events at the port."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *runtime_client(),
        function.handler,
        cwd=function.code,
        env=environment_variables(function, name, port) | dict(of_lambda),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C in the terminal is for the runtime alone
    )


def runtime_client() -> tuple[str, ...]:
    """AWS's own; runtime_client.py where that cannot be installed, or if RUNTIME_CLIENT asks so."""
    has_aws_own = all(map(importlib.util.find_spec, ("awslambdaric", "runtime_client")))
    if has_aws_own and os.environ.get("RUNTIME_CLIENT") != "openreserve":
        return "-m", "awslambdaric"
    return "-P", str(Path(__file__).with_name("runtime_client.py"))


def environment_variables(function: Function, name: str, port: int) -> dict[str, str]:
    """What Lambda sets, and what the template sets. Nothing else of this machine gets through."""
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


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def stop_leftover(pid_file: Path, mark: str) -> None:
    """Stop the server of a runtime that was killed: it would go on for ever.

    `mark`: a part of its command line, as another process may have its number by now.
    """
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text()))
        if any(mark in part for part in process.cmdline()):
            process.kill()
