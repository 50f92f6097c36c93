"""What Lambda would bill, as far as a laptop can tell: `python -m tests.bench.billed`.

Each function runs under AWS's Runtime Interface Emulator (it comes with the SAM CLI), one call at a
time, with a Postgres and a Redis of its own, and is read from the emulator's REPORT lines. Beside
the time stands the CPU that the process took, since a function of 512 MB has 512/1769 of a vCPU,
and this machine a whole core. Writes infra/costs/measured.toml.
"""

import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from platform import machine
from statistics import mean, median
from typing import Any
from uuid import uuid4

import psutil
import redis

from infra.local import services
from infra.local.template import model
from openreserve.postgres.migrations import migrate
from tests.e2e.runtime import free_port

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "infra/costs/measured.toml"
WARM_UP = 50
CALLS = 500
EXPIRED_AT_ONCE = 500
REPORT = re.compile(r"Duration: ([\d.]+) ms\s+Billed Duration: (\d+) ms")
START_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one function, per call."""

    billed_ms: float
    duration_ms: float
    duration_ms_median: float
    cpu_ms: float
    log_bytes: int
    redis_commands: float
    start_cpu_ms: float

    def table(self, name: str) -> str:
        """As TOML."""
        figures = (f"{key} = {round(value, 2)}" for key, value in asdict(self).items())
        return "\n".join((f"[functions.{name}]", *figures)) + "\n"


class Function:
    """One under the emulator, called over HTTP."""

    def __init__(self, url: str, emulator: psutil.Process, output: Path) -> None:
        self._url, self._emulator, self._output = url, emulator, output

    def call(self, event: Any) -> Any:
        request = urllib.request.Request(self._url, data=json.dumps(event).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310 - this machine
            return json.loads(answer.read())

    def cpu_seconds(self) -> float:
        """Of the process that runs the function, which the first call starts."""
        (runtime_client,) = self._emulator.children()
        times = runtime_client.cpu_times()
        return times.user + times.system

    def log(self) -> str:
        return self._output.read_text()


def main() -> None:
    """Measure all, print it, and write it down."""
    with (
        tempfile.TemporaryDirectory() as folder,
        services.postgres(Path(folder)) as postgres,
        services.redis(Path(folder)) as own_redis,
    ):
        migrate(postgres.migration_url)
        parameters = {
            "DatabaseUrl": postgres.app_url,
            "MigrationUrl": postgres.migration_url,
            "RedisUrl": own_redis.url,
            "ExpireStaySeconds": "0",
        }
        functions = {
            function.name.removesuffix("Function").lower(): function
            for function in model.load(ROOT / "template.yaml", parameters).functions
        }
        samples = _samples(functions, Path(folder), own_redis.url)
        metrics = _metrics("".join(log.read_text() for log in Path(folder).glob("*Function-*.log")))
    head = (
        f"# Written by `python -m tests.bench.billed`; {CALLS} calls each; figures are per call.",
        f'date = "{datetime.now(UTC):%Y-%m-%d}"',
        f'processor = "{_processor()}"',
        f"memory_mb = {functions['reserve'].memory_mb}",
        f"expired_holds_per_call = {EXPIRED_AT_ONCE}",
        f"metrics = {metrics}",
        "",
    )
    text = "\n".join((*head, *(sample.table(name) for name, sample in samples.items())))
    assert tomllib.loads(text)["functions"].keys() == samples.keys()
    MEASURED.write_text(text)
    print(text)


def _samples(
    functions: Mapping[str, model.Function], folder: Path, redis_url: str
) -> dict[str, Sample]:
    def event(name: str) -> Any:
        return json.loads((ROOT / f"events/{name}.json").read_text())

    def reserve(quantity: int = 1, ttl_seconds: int = 3_600) -> Any:
        made = event("reserve")
        made["headers"]["idempotency-key"] = uuid4().hex
        made["body"] = json.dumps(
            {"resourceId": "billed", "quantity": quantity, "ttlSeconds": ttl_seconds}
        )
        return made

    def settle(name: str, tokens: list[str]) -> Any:
        made = event(name)
        made["body"] = json.dumps({"token": tokens.pop()})
        return made

    def hold(count: int, ttl_seconds: int = 3_600) -> list[str]:
        answers = [one.call(reserve(ttl_seconds=ttl_seconds)) for _ in range(count)]
        return [json.loads(answer["body"])["token"] for answer in answers]

    samples: dict[str, Sample] = {}
    with _running(functions["stock"], folder) as stock:
        on_sale = event("set-stock")
        on_sale["body"] = '{"resourceId": "billed", "totalStock": 1000000}'
        stock.call(on_sale)
        read = event("read-resource")
        read["pathParameters"]["resourceId"] = "billed"
        samples["read"] = _measured(stock, lambda: read, redis_url)
    with _running(functions["reserve"], folder) as one:
        samples["reserve"] = _measured(one, reserve, redis_url)
        for verb in ("commit", "release"):
            tokens = hold(WARM_UP + CALLS)
            with _running(functions[verb], folder) as other:
                samples[verb] = _measured(other, lambda: settle(verb, tokens), redis_url)  # noqa: B023
        with _running(functions["reconcile"], folder) as other:
            samples["reconcile_idle"] = _measured(other, dict, redis_url)
            hold(EXPIRED_AT_ONCE, ttl_seconds=1)
            time.sleep(1.1)
            samples["reconcile_of_expired"] = _measured(other, dict, redis_url, calls=1)
    return samples


def _measured(
    function: Function, event: Callable[[], Any], redis_url: str, calls: int = CALLS
) -> Sample:
    start_cpu_ms = 0.0
    for _ in range(WARM_UP if calls > 1 else 0):
        function.call(event())
        start_cpu_ms = start_cpu_ms or function.cpu_seconds() * 1_000
    log_before, commands_before = len(function.log()), _commands(redis_url)
    cpu_before = function.cpu_seconds()
    for _ in range(calls):
        answer = function.call(event())
        assert "errorMessage" not in answer, answer
        assert answer.get("statusCode", 200) == 200, answer
    cpu_ms = (function.cpu_seconds() - cpu_before) * 1_000 / calls
    commands = (_commands(redis_url) - commands_before) / calls
    log = function.log()[log_before:]
    reports = [(float(took), int(billed)) for took, billed in REPORT.findall(log)]
    assert len(reports) == calls, log[-500:]
    return Sample(
        billed_ms=mean(billed for _, billed in reports),
        duration_ms=mean(took for took, _ in reports),
        duration_ms_median=median(took for took, _ in reports),
        cpu_ms=cpu_ms,
        log_bytes=math.ceil(len(log) / calls),
        redis_commands=commands,
        start_cpu_ms=start_cpu_ms,
    )


def _metrics(log: str) -> int:
    """How many metrics CloudWatch makes of the log, for it bills each with its dimensions."""
    found: set[tuple[str, ...]] = set()
    for line in log.splitlines():
        if '"_aws"' not in line:
            continue
        entry = json.loads(line[line.index("{") :])
        for directive in entry["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                words = [f"{name}={entry[name]}" for name in sorted(names)]
                found |= {(metric["Name"], *words) for metric in directive["Metrics"]}
    return len(found)


def _commands(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        found: Any = client.info("stats")
    return int(found["total_commands_processed"])


@contextmanager
def _running(function: model.Function, folder: Path) -> Iterator[Function]:
    port, runtime_port = free_port(), free_port()
    output = folder / f"{function.name}-{port}.log"
    with output.open("w") as log:
        emulator = subprocess.Popen(
            [
                *(str(_emulator()), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
                *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
                *(sys.executable, "-m", "awslambdaric", function.handler),
            ],
            cwd=function.code,
            stdout=log,
            stderr=log,
            env={
                **function.environment,
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT / "layers/openreserve"),
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout_seconds),
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            },
        )
        try:
            url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
            _wait_until_up(port)
            yield Function(url, psutil.Process(emulator.pid), output)
        finally:
            emulator.kill()
            emulator.wait()


def _wait_until_up(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the emulator did not start within {START_SECONDS_MAX} s")
        time.sleep(0.02)


def _emulator() -> Path:
    found = find_spec("samcli")
    assert found is not None, "make .venv/.test-$(uname -s) installs the SAM CLI"
    assert found.origin is not None
    kind = {"aarch64": "arm64"}.get(machine(), machine())
    return Path(found.origin).parent / f"local/rapid/aws-lambda-rie-{kind}"


def _processor() -> str:
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return models[0].strip() if models else machine()


if __name__ == "__main__":
    main()
