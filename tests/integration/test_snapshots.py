"""SnapStart hooks: a snapshot must not contain connections or state."""

import random
import subprocess
import sys

import pytest
import snapshot_restore_py

from openreserve.cache import connection as cache_connection
from openreserve.postgres import connection as postgres_connection
from openreserve.runtime import snapstart
from tests.conftest import Engine
from tests.support.handlers import call, reserve, set_stock

hooks = pytest.importorskip(
    "awslambdaric.lambda_runtime_hooks_runner", reason="awslambdaric has wheels for Linux alone"
)

FUNCTIONS = ["reserve", "commit", "release", "stock", "backoffice", "endpoints"]

START = """
import psutil, snapshot_restore_py
import functions.{function}.app
assert not psutil.Process().net_connections("all"), "it has connected"
(close, again) = snapshot_restore_py.get_before_snapshot(), snapshot_restore_py.get_after_restore()
print(len(close), len(again))
"""


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks of one handler, not of every module loaded in this process."""
    monkeypatch.setattr(snapshot_restore_py, "_before_snapshot_registry", [])
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", [])
    snapstart.register()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_newly_loaded_handler_has_its_hooks_and_no_connection(function: str) -> None:
    start = [sys.executable, "-c", START.format(function=function)]
    ran = subprocess.run(start, capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, "1 1\n"), ran.stderr


@pytest.mark.usefixtures("_registered")
def test_connections_are_closed_before_a_snapshot_and_reopened_after_it(
    engine: Engine, name: str
) -> None:
    set_stock(name, 5)
    assert reserve((name, 1)).status == 200
    before = postgres_connection._connection.get()
    assert before is not None

    hooks.run_before_snapshot()

    assert before.closed
    assert (
        postgres_connection._connection.get(),
        cache_connection._state.get().nodes,
    ) == (None, None)
    hooks.run_after_restore()
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "ok"
    assert engine.drift() == []


@pytest.mark.usefixtures("engine", "_registered")
def test_a_pause_of_redis_is_not_restored_from_a_snapshot() -> None:
    cache_connection._state.get().pause.until = float("inf")
    snapstart.opened(cache_connection.disconnect)

    hooks.run_before_snapshot()

    assert call("health").json["redis"] == "ok"


@pytest.mark.usefixtures("_registered")
def test_environments_of_one_snapshot_draw_different_random_numbers() -> None:
    snapshot = random.getstate()

    def restored() -> list[float]:
        random.setstate(snapshot)
        hooks.run_after_restore()
        return [random.random() for _ in range(3)]

    assert restored() != restored()


@pytest.mark.usefixtures("engine", "_registered")
def test_environments_of_one_snapshot_issue_different_tokens(name: str) -> None:
    """Tokens come from the random source of the system, independent of any seed."""
    set_stock(name, 5)
    tokens = set()
    for _ in range(2):
        random.seed(0)
        tokens.add(reserve((name, 1)).json["token"])

    assert len(tokens) == 2


def test_outside_lambda_no_snapshot_hooks_are_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)

    snapstart.register()
