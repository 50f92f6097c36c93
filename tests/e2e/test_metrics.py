"""Prometheus scrapes the local runtime under load, and every panel of the dashboard has data."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runtime import ROOT, Runtime, free_port, started
from tests.support.receiver import receiving

DASHBOARD = ROOT / "infra/observability/grafana/dashboards/openreserve.json"
EXPRESSIONS = [
    (panel["title"], target["expr"].replace("$__rate_interval", "30s"))
    for panel in json.loads(DASHBOARD.read_text())["panels"]
    for target in panel["targets"]
]
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("metrics")) as runtime:
        yield runtime


def exposed(runtime: Runtime) -> str:
    return runtime.call("GET", "/metrics").text


def load(runtime: Runtime, round_: int) -> None:
    """Traffic for each panel: expiring holds, both kinds of refusals, replays and a webhook."""
    name = f"metrics-{round_}"
    runtime.set_stock(name, 1)
    hold = {"resourceId": name, "quantity": 1, "ttlSeconds": 1}
    for n in range(4):
        runtime.call("POST", "/api/v1/reserve", hold, {"Idempotency-Key": f"{name}-{n}"})
    runtime.reserve(name, f"{name}-0")
    runtime.stock(name)


def test_the_metrics_of_the_functions_are_exposed_in_the_format_of_prometheus(
    runtime: Runtime,
) -> None:
    load(runtime, 0)
    deadline = time.monotonic() + SECONDS_MAX
    while 'openreserve_holds_expired_total{path="prompt"} 1.0' not in exposed(runtime):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    text = exposed(runtime)

    assert 'openreserve_requests_total{outcome="held",route="POST /api/v1/reserve"} 1.0' in text
    refused = 'openreserve_requests_total{outcome="out_of_stock",route="POST /api/v1/reserve"} 3.0'
    assert refused in text
    assert (
        'openreserve_http_request_seconds_count{route="POST /api/v1/reserve",status="409"} 3.0'
        in text
    )
    for state in ("idle", "busy", "starting"):
        assert f'openreserve_environments{{function="Reserve",state="{state}"}}' in text
    assert 'openreserve_postgres_connections{state="waiting"} 0.0' in text
    assert "metrics-0" not in text, "labels contain no ids"


def test_there_are_no_created_series(runtime: Runtime) -> None:
    load(runtime, 0)

    families = re.findall(r"^# TYPE (\S+) (\w+)$", exposed(runtime), re.MULTILINE)

    assert {kind for _, kind in families} == {"counter", "gauge", "histogram"}
    assert [name for name, _ in families if name.endswith("_created")] == []
    assert "_created" not in exposed(runtime)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_reports_no_problems(runtime: Runtime) -> None:
    load(runtime, 0)

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposed(runtime),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_every_panel_of_the_dashboard_has_data(runtime: Runtime, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: openreserve\n"
        f"    static_configs: [{{targets: ['{runtime.url.removeprefix('http://')}']}}]\n"
    )
    prometheus = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with receiving() as shop:
            body = {"endpointId": "metrics", "url": f"{shop.url}/hook"}
            runtime.call("POST", "/api/v1/webhooks", body)
            deadline = time.monotonic() + SECONDS_MAX
            empty = EXPRESSIONS
            for round_ in range(1, 10_000):
                load(runtime, round_)
                empty = [(title, expr) for title, expr in empty if not value_of(expr, port)]
                if not empty:
                    break
                assert time.monotonic() < deadline, empty
                time.sleep(0.5)
    finally:
        prometheus.kill()
        prometheus.wait()


def value_of(expression: str, port: int) -> list[Any]:
    """The current value of an expression; empty while Prometheus starts."""
    query = urllib.parse.urlencode({"query": expression})
    url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return [series for series in result if series["value"][1] != "NaN"]
