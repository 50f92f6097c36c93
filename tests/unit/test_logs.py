"""Log lines of functions are never interleaved."""

import json
import subprocess
import sys

import pytest

from openreserve.runtime.telemetry import emit

TWO_THREADS = """
import sys, threading
from openreserve.runtime.telemetry import emit, logger

sys.setswitchinterval(1e-6)

def write(path):
    for n in range(1_000):
        emit({"HoldsExpired": n}, dimensions={"path": path})
        logger().info("a line", extra={"path": path})

threads = [threading.Thread(target=write, args=(path,)) for path in ("prompt", "net")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_log_lines_of_two_threads_never_mix() -> None:
    written = subprocess.run(
        [sys.executable, "-u", "-c", TWO_THREADS], check=True, capture_output=True, text=True
    ).stdout

    lines = [json.loads(line) for line in written.splitlines()]
    counted = [(line["path"], line["HoldsExpired"]) for line in lines if "HoldsExpired" in line]
    assert len(lines) == 4_000
    for path in ("prompt", "net"):
        assert [counts for named, counts in counted if named == path] == [
            [float(n)] for n in range(1_000)
        ]


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]


def test_every_line_has_the_trace_id_of_its_invocation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both kinds of lines use one name. The runtime sets the variable for each invocation."""
    one, other = "1-5759e988-bd862e3fe1be46a994272793", "1-67891233-abcdef012345678912345678"
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={one};Parent=53995c3f42cd8ad8;Sampled=1")
    emit({"Requests": 1}, facts={"status": 200})
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={other};Sampled=0")
    emit({"Requests": 1})
    monkeypatch.delenv("_X_AMZN_TRACE_ID")
    emit({"Requests": 1})

    assert [line.get("xray_trace_id") for line in lines(capsys)] == [one, other, None]


def test_the_logger_and_the_metrics_use_one_name_for_the_trace_id() -> None:
    program = """
import os
os.environ["_X_AMZN_TRACE_ID"] = "Root=1-a-b;Parent=c;Sampled=1"
from openreserve.runtime.telemetry import logger
logger().info("a line")
"""
    written = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert json.loads(written)["xray_trace_id"] == "1-a-b"


def test_a_5xx_response_is_logged_with_the_function_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "openreserve-prod-ReserveFunction-x")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "12")
    for status in (200, 409, 500, 503):
        emit({"Requests": 1}, facts={"status": status})

    named = [(line.get("functionName"), line.get("functionVersion")) for line in lines(capsys)]
    assert named == [
        (None, None),
        (None, None),
        ("openreserve-prod-ReserveFunction-x", "12"),
        ("openreserve-prod-ReserveFunction-x", "12"),
    ]
