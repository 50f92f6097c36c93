"""SQS and Secrets Manager for one machine: moto's server, in a process of its own.

What it has is in its memory. Secrets are written down beside it and put back with the next start;
messages that wait are gone with it, and their events can still be pulled.
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

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 30
LOOK_SECONDS = 0.02
KEEP_SECONDS = 2
"""Between two looks whether there are other secrets to write down."""


@dataclass(frozen=True, slots=True)
class Aws:
    """Where AWS is, as far as functions need it."""

    url: str

    @property
    def variables(self) -> Mapping[str, str]:
        """What Lambda sets, so that clients find it and may use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: Literal["secretsmanager", "sqs"]) -> Any:
        """A client of a service; each thread may use it."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - it opens nothing
            region_name=REGION,
            # Long polling, by as many threads as there are environments.
            config=Config(read_timeout=30, max_pool_connections=50, retries={"max_attempts": 1}),
        )

    def wait_until_up(self) -> None:
        """Return when it takes connections.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.is_up():
            if time.monotonic() > deadline:
                raise TimeoutError(f"moto's server did not start within {START_SECONDS_MAX} s")
            time.sleep(LOOK_SECONDS)

    def is_up(self) -> bool:
        """Whether it takes connections."""
        port = int(self.url.rpartition(":")[2])
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False


@contextmanager
def server(state: Path) -> Iterator[Aws]:
    """A server that is starting; its log, and what outlives it, are in `state`."""
    pid_file = state / "aws.pid"
    stop_leftover(pid_file, mark="moto_server")
    aws = Aws(f"http://127.0.0.1:{_free_port()}")
    with (state / "aws.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.moto_server", aws.url.rpartition(":")[2]],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "MOTO_ACCOUNT_ID": ACCOUNT},
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for the runtime alone
        )
        pid_file.write_text(str(process.pid))
        try:
            with _secrets_kept(aws, state / "secrets.json"):
                yield aws
        finally:
            process.kill()
            process.wait()
            pid_file.unlink()


@contextmanager
def _secrets_kept(aws: Aws, file: Path) -> Iterator[None]:
    over = threading.Event()
    keeper = threading.Thread(target=_keep_secrets, args=(aws, file, over))
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep_secrets(aws: Aws, file: Path, over: threading.Event) -> None:
    """Put back what was kept, then keep what there is, until it is over."""
    while not aws.is_up():
        if over.wait(LOOK_SECONDS):
            return  # nothing was put back: what was kept stays as it is
    manager = aws.client("secretsmanager")
    kept = json.loads(file.read_text()) if file.exists() else []
    for secret in kept:
        manager.create_secret(**secret)
    while True:
        last = over.wait(KEEP_SECONDS)
        with suppress(BotoCoreError, ClientError):  # or one was just removed
            found = _secrets(manager)
            if found != kept:
                _write_whole(file, json.dumps(found, indent=2))
                kept = found
        if last:
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


def _write_whole(file: Path, text: str) -> None:
    """All of it or nothing, and for nobody else's eyes."""
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(file)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
