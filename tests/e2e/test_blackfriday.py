"""`make blackfriday` as a subprocess: its exit code says whether the engine sold exactly."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.runtime import ROOT, Runtime, free_port, started

GUIDE = (ROOT / "docs/how-to/load-test.md").read_text()
SMALL = {"USERS": "300", "STOCK": "20", "RAMP": "2"}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime


class Ended:
    """A completed run of the load test."""

    def __init__(self, reports: Path, **parameters: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.load"],
            cwd=ROOT,
            env=os.environ | SMALL | {"REPORTS": str(reports)} | parameters,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        self.code = done.returncode
        self.printed = done.stdout
        self.complained = done.stderr
        self.folder = next(reports.glob("*"), reports)

    @property
    def verdict(self) -> Any:
        return json.loads((self.folder / "verdict.json").read_text())


def test_a_black_friday_run_sells_the_exact_stock_and_writes_a_report(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name)

    assert (ended.code, ended.complained) == (0, "")
    assert ended.verdict == {
        "exact": True,
        "faults": [],
        "answers": {"reserve 200": 20, "reserve 409 out_of_stock": 280},
    }
    assert runtime.stock(name)["heldStock"] == 20
    assert f"{name}: total 20 = available 0 + held 20 + committed 0" in ended.printed
    assert "reserve 409 out_of_stock" in (ended.folder / "index.html").read_text()
    assert "reserve 409 out_of_stock,280,0," in (ended.folder / "stats.csv").read_text()


def test_without_a_host_the_load_test_starts_and_stops_a_local_runtime(tmp_path: Path) -> None:
    ended = Ended(tmp_path, HOST="", USERS="40", RAMP="1")

    assert (ended.code, ended.complained) == (0, "")
    assert ended.verdict["answers"] == {"reserve 200": 20, "reserve 409 out_of_stock": 20}
    shown = GUIDE.partition("$ make blackfriday\n")[2].partition("\n```")[0]
    assert _shape(shown) == _shape(ended.printed)
    port = ended.printed.partition("http://127.0.0.1:")[2].split()[0]
    assert _commands_with(f"--port {port}") == []


def _shape(printed: str) -> list[str]:
    """The printed lines without numbers and without the folder of the report."""
    text = re.sub(r"Report: .*/", "Report: ", printed.strip())
    return [re.sub(r"[\d,]*\d", "N", " ".join(line.split())) for line in text.splitlines()]


def _commands_with(part: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if part in line]


def test_units_without_a_buyer_stay_available(runtime: Runtime, tmp_path: Path, name: str) -> None:
    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, USERS="30", RAMP="1", STOCK="50")

    assert ended.code == 0
    assert ended.verdict["answers"] == {"reserve 200": 30}
    assert runtime.stock(name)["availableStock"] == 20


def test_two_processes_count_exactly(runtime: Runtime, tmp_path: Path, name: str) -> None:
    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, PROCESSES="2")

    assert (ended.code, ended.complained) == (0, "")
    assert ended.verdict["answers"] == {"reserve 200": 20, "reserve 409 out_of_stock": 280}


@pytest.mark.slow
def test_a_worker_on_another_machine_receives_the_parameters(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    port = str(free_port())
    variables = {key: value for key, value in os.environ.items() if key not in SMALL}
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", "--locustfile", "tests/load/blackfriday.py"),
            *("--worker", "--master-host", "127.0.0.1", "--master-port", port),
        ],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, WORKERS="1", MASTER_PORT=port)
        worker.wait(30)
    finally:
        worker.kill()
        worker.wait()

    assert ended.code == 0
    assert ended.verdict["answers"] == {"reserve 200": 20, "reserve 409 out_of_stock": 280}


def test_repeated_requests_of_a_buyer_get_the_same_response(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, RETRY_PERCENT="30")

    answers = ended.verdict["answers"]
    assert ended.code == 0
    assert (answers["reserve 200"], answers["reserve 409 out_of_stock"]) == (20, 280)
    assert 0 < answers["repeat 409 out_of_stock"] < 280


@pytest.mark.slow
def test_carts_with_several_resources_are_held_all_or_nothing(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, SHAPE="mixed", PROCESSES="2")

    answers = ended.verdict["answers"]
    assert ended.code == 0
    assert answers["reserve 200"] + answers["reserve 409 out_of_stock"] == 300


@pytest.mark.slow
def test_a_soak_run_accounts_for_every_unit(runtime: Runtime, tmp_path: Path, name: str) -> None:
    variables = {"SHAPE": "soak", "DURATION": "20", "RATE": "10", "STOCK": "20"}

    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name, **variables)

    stock = runtime.stock(name)
    answers = ended.verdict["answers"]
    assert ended.code == 0
    assert stock["committedStock"] == answers["commit 200"] > 0
    assert stock["heldStock"] == 0
    assert answers["late commit 410 hold_expired"] > 0


def test_a_run_on_existing_stock_does_not_change_it(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    runtime.set_stock(name, 7)

    ended = Ended(tmp_path, HOST=runtime.url, RESOURCE=name)

    assert ended.code == 2
    assert f"{name} already exists at {runtime.url}" in ended.complained
    assert runtime.stock(name)["availableStock"] == 7


def test_an_unreachable_host_is_reported_in_one_line(tmp_path: Path) -> None:
    host = f"http://127.0.0.1:{free_port()}"

    ended = Ended(tmp_path, HOST=host)

    assert (ended.code, ended.printed) == (2, "")
    assert ended.complained.startswith(f"Could not run the load test: {host} is unreachable")
    assert ended.complained.count("\n") == 1


def test_one_oversold_unit_fails_the_run(tmp_path: Path, name: str) -> None:
    with started(tmp_path / "state") as runtime:
        _break_the_guard(runtime)

        ended = Ended(tmp_path / "reports", HOST=runtime.url, RESOURCE=name)

        assert runtime.stock(name)["availableStock"] == -1
    assert ended.code == 1
    assert ended.verdict["answers"]["reserve 200"] == 21
    assert "✗ 21 x reserve 200, expected 20" in ended.printed
    assert f"✗ {name}: negative stock" in ended.printed


def _break_the_guard(runtime: Runtime) -> None:
    """Change the SQL functions of this runtime so that they oversell one unit."""
    socket_folder = (runtime.state / "postgres/postmaster.pid").read_text().splitlines()[4]
    owner = f"postgresql://openreserve_owner@/openreserve?host={socket_folder}"
    with psycopg.connect(owner, autocommit=True) as connection:
        for function, right, wrong in (
            (
                "take_stock",
                "available_stock >= quantities[n]",
                "available_stock + 1 >= quantities[n]",
            ),
            ("find_shortages", "ELSIF available < quantities", "ELSIF available + 1 < quantities"),
        ):
            row = connection.execute(
                "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", [function]
            ).fetchone()
            assert row is not None
            assert row[0].count(right) == 1
            connection.execute(row[0].replace(right, wrong))
        connection.execute(
            "ALTER TABLE openreserve.resources DROP CONSTRAINT resources_never_oversold"
        )
