"""What it costs to operate: how soon a command starts, an import, and the index of the lists."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg

from openreserve_client import Client
from tests.e2e.runtime import Runtime, started
from tests.support.scripted_http import Step, scripted
from tests.support.terminal import COMMAND, environment
from tests.unit.test_client import RESOURCE

Report = Callable[[str, Callable[[], float], Callable[[], float]], None]

LINES = 100_000
SINGLE_CALLS = 2_000
LANES = 4
HOLDS = 500
INDEX = (
    "CREATE INDEX reservation_items_settled_by_resource"
    " ON openreserve.reservation_items (resource_id, token) WHERE held_until IS NULL"
)


def books(report: Report, owner_url: str, app_url: str) -> None:
    """What the index of a resource's settled reservations adds to the verbs, in time."""
    with (
        psycopg.connect(owner_url, autocommit=True) as owner,
        psycopg.connect(app_url, autocommit=True, prepare_threshold=None) as app,
    ):
        app.execute(
            "CALL openreserve.set_stock('bench-list', 1000000000, NULL, 100, NULL, NULL, NULL)"
        )

        def without() -> None:
            owner.execute("DROP INDEX openreserve.reservation_items_settled_by_resource")

        def timed(*, index: bool, settle: bool) -> float:
            if not index:
                without()
            started_at = time.perf_counter()
            tokens = [_hold(app) for _ in range(HOLDS)]
            if settle:
                started_at = time.perf_counter()
                for token in tokens:
                    app.execute("SELECT openreserve.commit(%s)", [token])
            seconds = (time.perf_counter() - started_at) / HOLDS
            if not index:
                owner.execute(INDEX.encode())
            return seconds

        report(
            "time of a reserve with the index of settled reservations, to that without",
            lambda: timed(index=True, settle=False),
            lambda: timed(index=False, settle=False),
        )
        report(
            "time of a commit with it, to that without",
            lambda: timed(index=True, settle=True),
            lambda: timed(index=False, settle=True),
        )


def command_line(report: Report) -> None:
    """How soon commands start; then an import of many lines, one in a hundred of them bad."""
    with scripted(Step(200, RESOURCE)) as server:
        check = [*COMMAND, "--server", server.url, "stock", "check", "-r", "a"]
        for title, command in (
            ("openreserve --version", [*COMMAND, "--version"]),
            ("openreserve stock check", check),
        ):
            report(
                f"time of {title}, to that of python -c pass",
                lambda command=command: _seconds(command),  # type: ignore[misc]
                lambda: _seconds([sys.executable, "-c", "pass"]),
            )
    with tempfile.TemporaryDirectory() as folder, started(Path(folder, "state")) as runtime:
        _import(runtime, Path(folder))


def _hold(app: psycopg.Connection) -> object:
    key = uuid4().hex
    (row,) = app.execute(
        "CALL openreserve.reserve(%s, sha256(%s), gen_random_uuid(), ARRAY['bench-list'], ARRAY[1],"
        " 300, 3600, 100, NULL, NULL, NULL, NULL, NULL, NULL)",
        [key, key.encode()],
    ).fetchall()
    return row[1]


def _seconds(command: list[str]) -> float:
    started_at = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(None))
    return time.perf_counter() - started_at


def _import(runtime: Runtime, folder: Path) -> None:
    small, large = _file(folder, "small", LINES // 10), _file(folder, "large", LINES)
    first_kib, _ = _run(runtime, small)
    large_kib, seconds = _run(runtime, large)
    _, again_seconds = _run(runtime, large)
    one = _single_calls(runtime) / SINGLE_CALLS
    rate = LINES / seconds
    print(
        f"{one / (seconds / LINES):5.2f} x  rate of an import of {LINES:,} lines, 1 % of them bad,"
        f" to that of {LANES} callers with a resource a call\n"
        f"         {rate:,.0f} to {1 / one:,.0f} lines a second"
    )
    print(f"{seconds / again_seconds:5.2f} x  rate of the same import run again, to the first")
    print(
        f"{large_kib / first_kib:5.2f} x  memory of an import of {LINES:,} lines, to one of"
        f" {LINES // 10:,}\n         {large_kib / 1_024:.1f} MiB to {first_kib / 1_024:.1f} MiB"
    )


def _file(folder: Path, name: str, lines: int) -> Path:
    file = folder / f"{name}.csv"
    with file.open("w") as out:
        for number in range(lines):
            out.write(f"{name}-{number},{-1 if number % 100 == 50 else number % 1_000}\n")
    return file


MEASURE = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode;"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True); sys.exit(code)"
)
"""Runs a command from a small process: what a child is said to have had at most begins with what
its parent had when it was started."""


def _run(runtime: Runtime, file: Path) -> tuple[int, float]:
    """Import a file; the most memory that it had, in KiB, and the seconds that it took."""
    command = [*COMMAND, "stock", "import", "--lanes", str(LANES), "-f", str(file)]
    started_at = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment({"OPENRESERVE_SERVER_URL": runtime.url}),
        check=False,
    )
    assert done.returncode == 1, "the bad lines are refused, and no others"
    return int(done.stdout.splitlines()[-1]), time.perf_counter() - started_at


def _single_calls(runtime: Runtime) -> float:
    """The seconds that as many callers as an import has lanes take for so many calls."""
    with Client(runtime.url) as client:

        def call(lane: int) -> None:
            for number in range(SINGLE_CALLS // LANES):
                client.set_stock(f"single-{lane}-{number}", 1)
            client.close()

        threads = [threading.Thread(target=call, args=(lane,)) for lane in range(LANES)]
        started_at = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started_at
