"""Runs a built function under the Lambda Runtime Interface Emulator of AWS.

As on Lambda, it imports only from its package, the layers and the packages of the image.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from infra.local.template.model import Function
from tests.e2e.building import Built, python_of_lambda
from tests.e2e.runtime import ROOT, free_port

START_SECONDS_MAX = 30
TIMEOUT_SECONDS_MIN = 60
"""Of the first invocation, which here includes the cold start, on a busy machine."""
OF_THE_IMAGE = ("awslambdaric", "boto3")


@dataclass(frozen=True)
class Image:
    """The runtime environment of Lambda, in local folders."""

    python: Path
    emulator: Path
    packages: Path
    """The runtime interface client and the AWS SDK."""
    opt: Path
    """All layers merged, as in /opt."""


COMPILING = """
import sys
from importlib.machinery import SourceFileLoader

class Watched(SourceFileLoader):
    def source_to_code(self, data, path, **options):
        if str(path).startswith(sys.argv[1]):
            print(path)
        return plainly(self, data, path, **options)

plainly = SourceFileLoader.source_to_code
SourceFileLoader.source_to_code = Watched.source_to_code
import app
"""
"""Imports a handler, and prints the sources of the layers that Python compiles for it."""


def compiled_at_start(around: Image, code: Path, **variables: str) -> list[str]:
    """The sources of the layers that a cold start compiles."""
    done = subprocess.run(
        [around.python, "-S", "-s", "-c", COMPILING, around.opt],
        env=_paths(around, code) | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def _paths(around: Image, code: Path) -> dict[str, str]:
    """PYTHONPATH as on Lambda, and no writing of compiled modules."""
    path = (code, around.opt / "python", around.packages)
    return {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}


def image(built: Built, folder: Path) -> Image:
    """Merge the layers, and install the packages of the AWS image."""
    python = python_of_lambda()
    subprocess.run(
        [
            *(ROOT / ".venv/bin/uv", "pip", "install", "--quiet", "--python", python),
            *("--target", folder / "packages", "--constraints", ROOT / "tests/requirements.txt"),
            *OF_THE_IMAGE,
        ],
        check=True,
        capture_output=True,
    )
    for layer in built.layers:
        shutil.copytree(layer, folder / "opt", dirs_exist_ok=True)
    emulator = files("samcli") / f"local/rapid/aws-lambda-rie-{built.processor}"
    return Image(python, Path(str(emulator)), folder / "packages", folder / "opt")


@dataclass(frozen=True)
class Environment:
    """An execution environment; warm after its first event."""

    url: str
    log: Path

    def invoke(self, event: Any) -> Any:
        """Invoke the function, and return its response or the error document of Lambda."""
        request = urllib.request.Request(  # noqa: S310 - of this machine
            f"{self.url}/2015-03-31/functions/function/invocations", json.dumps(event).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=100) as answer:  # noqa: S310
                content = answer.read()
        except urllib.error.HTTPError as failed:
            with failed:
                content = failed.read()
        try:
            return json.loads(content)
        except ValueError:
            raise AssertionError(f"{content!r}\n{self.log.read_text()}") from None


@contextmanager
def emulated(
    around: Image, function: Function, log: Path, of_lambda: Mapping[str, str]
) -> Iterator[Environment]:
    """An environment with the variables of the function and `of_lambda`, which Lambda sets."""
    port = free_port()
    code = function.code
    variables = {
        "PATH": os.environ["PATH"],
        **_paths(around, code),
        "LAMBDA_TASK_ROOT": str(code),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(max(function.timeout_seconds, TIMEOUT_SECONDS_MIN)),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        **of_lambda,
        **function.environment,
    }
    with log.open("w") as lines:
        process = subprocess.Popen(
            [
                around.emulator,
                *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
                *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
                # -S, -s: without site-packages of this Python and this user
                *(around.python, "-S", "-s", "-m", "awslambdaric", function.handler),
            ],
            cwd=code,
            env=variables,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
        try:
            _wait_until_up(port)
            yield Environment(f"http://127.0.0.1:{port}", log)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_up(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise TimeoutError(f"the emulator did not start within {START_SECONDS_MAX} s")
