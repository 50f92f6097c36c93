"""Starts the local runtime as a separate process, and calls it over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.handlers import Reply

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 60


@dataclass
class Runtime:
    """A running local runtime."""

    url: str
    state: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; a status of 400 or higher raises no exception."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - of this machine
            self.url + path,
            method=method,
            data=None if body is None else content,
            headers={"Content-Type": "application/json"} | dict(headers or {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return Reply(answer.status, _headers(answer), answer.read().decode())
        except urllib.error.HTTPError as answer:
            with answer:
                return Reply(answer.code, _headers(answer), answer.read().decode())

    def set_stock(self, resource_id: str, total_stock: int) -> Reply:
        body = {"resourceId": resource_id, "totalStock": total_stock}
        return self.call("POST", "/api/v1/resources", body)

    def reserve(self, resource_id: str, key: str, quantity: int = 1) -> Reply:
        body = {"resourceId": resource_id, "quantity": quantity}
        return self.call("POST", "/api/v1/reserve", body, {"Idempotency-Key": key})

    def stock(self, resource_id: str) -> Any:
        return self.call("GET", f"/api/v1/resources/{resource_id}").json

    def environments(self, function: str) -> list[psutil.Process]:
        """The processes of the execution environments of a function."""
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if child.environ().get("AWS_LAMBDA_FUNCTION_NAME") == function
        ]

    def wait_until_idle(self, function: str) -> psutil.Process:
        """Wait until the function's only environment asks for its next event, and return it.

        An event that arrives earlier starts a second environment.
        """
        series = f'openreserve_environments{{function="{function.removesuffix("Function")}",'
        deadline = time.monotonic() + START_SECONDS_MAX
        while f'{series}state="idle"}} 1.0' not in self.call("GET", "/metrics").text:
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.05)
        (environment,) = self.environments(function)
        return environment

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop the runtime, by default with SIGINT as Ctrl-C does, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def _headers(answer: Any) -> Mapping[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


@contextmanager
def started(
    state: Path, *options: str, port: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[Runtime]:
    """A runtime on a free port, with its data in `state`."""
    port = port or free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "infra.local"),
            *("--port", str(port), "--state", str(state), *options),
        ],
        cwd=ROOT,
        env=os.environ | dict(variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,  # Ctrl-C reaches only pytest, which stops the runtime
    )
    runtime = Runtime(f"http://127.0.0.1:{port}", state, process)
    reader = threading.Thread(target=_read, args=(runtime,), daemon=True)
    reader.start()
    try:
        _wait_until_ready(runtime)
        yield runtime
    finally:
        if process.poll() is None:
            runtime.stop()
        reader.join(10)
        assert process.stdout is not None
        process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _read(runtime: Runtime) -> None:
    assert runtime.process.stdout is not None
    for line in runtime.process.stdout:
        runtime.lines.append(line.rstrip("\n"))


def _wait_until_ready(runtime: Runtime) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not any("Ctrl-C" in line for line in runtime.lines):
        if runtime.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError("\n".join(runtime.lines))
        time.sleep(0.05)
