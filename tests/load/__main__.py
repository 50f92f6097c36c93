"""`make blackfriday`: creates stock, generates load with Locust, and verifies the result."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.runtime import ROOT, Runtime, free_port, started
from tests.load import memory
from tests.load.parameters import CannotRun, Parameters
from tests.load.stage import Stage, authority

RESOURCE = "ps5_sku_123"
SETTLE_SECONDS_MAX = 10
"""Time for buyers of a soak test to settle their last hold. Other shapes need none."""
STOP_SECONDS_MAX = 60
MEMORY_EVERY_SECONDS = 60.0
RESTOCK_EVERY_SECONDS = 1.0
WIDTH = 59


def main(variables: Mapping[str, str] | None = None) -> int:
    """Run a load test. 0: exact; 1: not exact, the output says why; 2: it could not run."""
    try:
        parameters = Parameters.of(os.environ if variables is None else variables)
        authority()
        with ExitStack() as stack:
            if parameters.host:
                return _run(parameters, None)
            runtime = stack.enter_context(_own_runtime())
            return _run(replace(parameters, host=runtime.url), runtime)
    except CannotRun as reason:
        sys.stderr.write(f"Could not run the load test: {reason}\n")
        return 2


def _run(parameters: Parameters, runtime: Runtime | None) -> int:
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    parameters = replace(
        parameters,
        host=parameters.host.rstrip("/"),
        resource=parameters.resource or (RESOURCE if runtime else f"{RESOURCE}-{stamp}"),
    )
    folder = ROOT / parameters.reports / f"{parameters.shape}-{stamp}"
    stage = Stage(parameters.host)
    stage.check()
    warm = runtime is not None and not parameters.cold
    print(_banner(parameters, warm=warm), flush=True)
    if warm:
        stage.warm_up(f"{parameters.resource}-warm-up")
    for resource_id, stock in parameters.stocks().items():
        stage.create(resource_id, stock)
        print(f"✓ Seeded {resource_id} with {stock:,} units", flush=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        if parameters.shape == "soak":
            stack.enter_context(_restocking(stage, parameters))
            if runtime:
                stack.enter_context(_watching(runtime))
        code = _locust(parameters, folder)
    print(f"Report: {os.path.relpath(folder / 'index.html')}", flush=True)
    return code


@contextmanager
def _own_runtime() -> Iterator[Runtime]:
    """Start the runtime of `make run` with a temporary data folder."""
    with tempfile.TemporaryDirectory(prefix="openreserve-") as state, ExitStack() as stack:
        try:
            runtime = stack.enter_context(started(Path(state)))
        except AssertionError as error:
            raise CannotRun(f"make run did not start: {str(error).splitlines()[-1:]}") from None
        yield runtime


def _banner(parameters: Parameters, *, warm: bool) -> str:
    lines = {
        "Target": parameters.host,
        "Stock": f"{parameters.stock:,} units of {', '.join(parameters.stocks())}",
        "Users": f"{parameters.users:,} virtual users over {parameters.ramp}s",
        "Expect": "every unit accounted for",
    }
    if parameters.shape == "blackfriday":
        sold = min(parameters.users, parameters.stock)
        lines["Expect"] = f"{sold:,} x HTTP 200, {parameters.users - sold:,} x HTTP 409"
    elif parameters.shape == "mixed":
        names = list(parameters.stocks())
        lines["Stock"] = f"{parameters.stock:,} units each of {names[0]} to {names[-1]}"
    else:
        lines["Users"] = f"{parameters.rate} reservations per second for {parameters.duration:,}s"
    if parameters.retry_percent:
        lines["Repeat"] = (
            f"{parameters.retry_percent} % of the requests are repeated with the same key"
        )
    if warm:
        lines["Warm-up"] = "functions are started before the load (COLD=1: they are not)"
    title = {"blackfriday": "BLACK FRIDAY SIMULATION"}.get(
        parameters.shape, f"LOAD TEST, {parameters.shape.upper()}"
    )
    return "\n".join(
        (
            f"╔{'═' * WIDTH}╗",
            f"║{f'{title} — OpenReserve':^{WIDTH}}║",
            f"╠{'═' * WIDTH}╣",
            *(f"║  {name:<11}: {text}" for name, text in lines.items()),
            f"╚{'═' * WIDTH}╝",
        )
    )


def _locust(parameters: Parameters, folder: Path) -> int:
    """Run Locust, and return its exit code. CannotRun: there is no verdict."""
    verdict = folder / "verdict.json"
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", f"tests/load/{parameters.shape}.py"),
        *("--headless", "--only-summary", "--loglevel", "ERROR"),
        *("--host", parameters.host, "--users", str(parameters.crowd)),
        *("--spawn-rate", str(parameters.crowd / max(1, parameters.arrival_seconds))),
        *("--stop-timeout", str(SETTLE_SECONDS_MAX if parameters.shape == "soak" else 0)),
        *("--parameters", parameters.as_json(), "--folder", str(folder)),
        *("--html", str(folder / "index.html")),
        *_distribution(parameters),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL) as locust:
        try:
            code = _wait(locust)
        finally:
            if locust.poll() is None:
                locust.terminate()
    if code != 2 and not verdict.exists():
        raise CannotRun(f"Locust exited with code {code}, without a verdict")
    return code


def _distribution(parameters: Parameters) -> list[str]:
    if parameters.workers:
        port = str(parameters.master_port)
        print(
            f"Waiting for {parameters.workers} workers: on each machine, .venv/bin/python -m locust"
            f" --locustfile tests/load/{parameters.shape}.py --worker --master-port {port}"
            " --master-host <this machine>",
            flush=True,
        )
        workers = str(parameters.workers)
        return ["--master", "--expect-workers", workers, "--master-bind-port", port]
    if parameters.processes > 1:
        port = str(free_port())
        ports = ["--master-bind-port", port, "--master-port", port]
        return ["--processes", str(parameters.processes), "--master-bind-host", "127.0.0.1", *ports]
    return []


def _wait(locust: subprocess.Popen[bytes]) -> int:
    """Wait for Locust. On Ctrl-C, which Locust receives too, it reports the results so far."""
    try:
        return locust.wait()
    except KeyboardInterrupt:
        return locust.wait(STOP_SECONDS_MAX)


@contextmanager
def _restocking(stage: Stage, parameters: Parameters) -> Iterator[None]:
    """Periodically replace the units that were sold."""

    def restock() -> None:
        with suppress(CannotRun):  # the buyers report the error, too
            sold = stage.stock(parameters.resource).committed
            stage.set_total(parameters.resource, parameters.stock + sold)

    with _every(RESTOCK_EVERY_SECONDS, restock):
        yield


@contextmanager
def _watching(runtime: Runtime) -> Iterator[None]:
    def emit() -> None:
        sizes = memory.megabytes(runtime)
        parts = ", ".join(f"{kind} {size:.0f}" for kind, size in sizes.items())
        print(f"memory: {sum(sizes.values()):.0f} MB = {parts}", flush=True)

    emit()
    with _every(MEMORY_EVERY_SECONDS, emit):
        yield
    emit()


@contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(2)
    )  # so that the runtime and Locust are stopped
    sys.exit(main())
