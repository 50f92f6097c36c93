"""Local AWS services: SQS and Secrets Manager by moto's server, in a separate process.

moto keeps its state in memory. Secrets are saved to a file and restored at the next start. Queued
messages are lost when it stops; their events can still be read from the API.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.processes import stop_leftover
from infra.local.template.intrinsics import ACCOUNT, REGION

ROOT = Path(__file__).parents[3]
START_SECONDS_MAX = 30
POLL_SECONDS = 0.02
SAVE_SECONDS = 2
"""Interval between checks for changed secrets."""


@dataclass(frozen=True, slots=True)
class Aws:
    """The endpoint of the local AWS services."""

    url: str

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that make AWS clients use the endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: Literal["secretsmanager", "sqs"]) -> Any:
        """A thread-safe client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - a dummy value
            region_name=REGION,
            # One long-polling thread per environment.
            config=Config(read_timeout=30, max_pool_connections=50, retries={"max_attempts": 1}),
        )

    def wait_until_up(self) -> None:
        """Wait until the server accepts connections.

        Raises:
            TimeoutError: it does not within START_SECONDS_MAX.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.is_up():
            if time.monotonic() > deadline:
                raise TimeoutError(f"moto's server did not start within {START_SECONDS_MAX} s")
            time.sleep(POLL_SECONDS)

    def is_up(self) -> bool:
        """Whether the server accepts connections."""
        port = int(self.url.rpartition(":")[2])
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False


@contextmanager
def server(state: Path) -> Iterator[Aws]:
    """Start a server without waiting for it. Its log and saved secrets are in `state`."""
    pid_file = state / "aws.pid"
    stop_leftover(pid_file, mark="moto_server")
    aws = Aws(f"http://127.0.0.1:{_free_port()}")
    with (state / "aws.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.aws.moto_server", aws.url.rpartition(":")[2]],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "MOTO_ACCOUNT_ID": ACCOUNT},
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C in the terminal reaches only the runtime
        )
        try:
            pid_file.write_text(str(process.pid))
            with _secrets_saved(aws, state / "secrets.json"):
                yield aws
        finally:
            process.kill()
            process.wait()
            pid_file.unlink(missing_ok=True)


@contextmanager
def _secrets_saved(aws: Aws, file: Path) -> Iterator[None]:
    stop = threading.Event()
    saver = threading.Thread(target=_save_secrets, args=(aws, file, stop))
    try:
        saver.start()  # inside, because Ctrl-C may interrupt it after the thread has started
        yield
    finally:
        stop.set()
        if saver.ident is not None:
            saver.join()


def _save_secrets(aws: Aws, file: Path, stop: threading.Event) -> None:
    """Restore the saved secrets, then save changes until stopped."""
    while not aws.is_up():
        if stop.wait(POLL_SECONDS):
            return  # nothing was restored, so the file stays unchanged
    manager = aws.client("secretsmanager")
    saved = json.loads(file.read_text()) if file.exists() else []
    for secret in saved:
        manager.create_secret(**secret)
    while True:
        stopping = stop.wait(SAVE_SECONDS)
        with suppress(BotoCoreError, ClientError):  # for example a secret that was just deleted
            current = _secrets(manager)
            if current != saved:
                _write_atomically(file, json.dumps(current, indent=2))
                saved = current
        if stopping:
            return


def _secrets(manager: Any) -> list[dict[str, Any]]:
    return [
        {
            "Name": secret["Name"],
            "SecretString": manager.get_secret_value(SecretId=secret["Name"])["SecretString"],
            "Tags": secret.get("Tags", []),
        }
        for page in manager.get_paginator("list_secrets").paginate()
        for secret in page["SecretList"]
    ]


def _write_atomically(file: Path, text: str) -> None:
    """Replace the file atomically. Only its owner may read it."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(file)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
