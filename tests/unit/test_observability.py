"""Dashboards and alarms only use metrics that the code emits."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from infra.local.metrics import exposed_name
from infra.local.template.intrinsics import Intrinsic, Loader
from openreserve.runtime.telemetry import METRICS, NAMESPACE

ROOT = Path(__file__).parents[2]
RESOURCES: dict[str, Any] = yaml.load(
    (ROOT / "template.yaml").read_text(),
    Loader=Loader,  # noqa: S506 - a SafeLoader
)["Resources"]
GRAFANA = json.loads((ROOT / "infra/observability/grafana/dashboards/openreserve.json").read_text())
RUNTIME_METRICS = {
    "openreserve_http_request_seconds",
    "openreserve_event_wait_seconds",
    "openreserve_environments",
    "openreserve_postgres_connections",
}
COUNTED_BY_A_FILTER = {"ServerErrors", "TooManyRequests", "Unforeseen"}
PANELS_OF_THE_SEED = (
    "HTTP request throughput",
    "HTTP response codes",
    "API latency, p95 and p99",
    "Postgres connections",
)


def resources_of_type(resource_type: str) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == resource_type
    }


def widgets() -> Iterator[Any]:
    (dashboard,) = resources_of_type("AWS::CloudWatch::Dashboard").values()
    body: Intrinsic = dashboard["DashboardBody"]
    for widget in json.loads(body.argument)["widgets"]:
        yield widget["properties"]


def test_cloudwatch_alarms_and_dashboard_use_existing_metrics() -> None:
    named = {
        alarm["MetricName"]
        for alarm in resources_of_type("AWS::CloudWatch::Alarm").values()
        if alarm.get("Namespace") == NAMESPACE
    }
    for widget in widgets():
        for metric in widget["metrics"]:
            if isinstance(metric[0], dict):
                named.add(re.findall(r'MetricName="(\w+)"', metric[0]["expression"])[0])
            elif metric[0] == NAMESPACE:
                named.add(metric[1])

    assert named - COUNTED_BY_A_FILTER <= METRICS.keys()
    assert len(named) > 10


def test_the_grafana_dashboard_uses_existing_metrics() -> None:
    exposed = {
        exposed_name(name, metric.unit) for name, metric in METRICS.items()
    } | RUNTIME_METRICS
    named = set()
    for panel in GRAFANA["panels"]:
        for target in panel["targets"]:
            named |= set(re.findall(r"\bopenreserve_\w+", target["expr"]))

    assert {re.sub(r"_(bucket|count|total)$", "", name) for name in named} <= exposed
    assert len(named) > 10


def test_both_dashboards_have_the_load_and_engine_panels() -> None:
    grafana_titles = [panel["title"] for panel in GRAFANA["panels"]]
    cloudwatch_titles = [widget["title"] for widget in widgets()]

    for title in PANELS_OF_THE_SEED:
        assert title in grafana_titles
        assert any(named.startswith(title) for named in cloudwatch_titles)
    for title in ("Expiry lag", "Outbox age", "Refusals by path", "Cold starts"):
        assert any(named.startswith(title) for named in grafana_titles)
        assert any(named.startswith(title) for named in cloudwatch_titles)


def test_every_alarm_describes_the_response_and_has_an_action() -> None:
    alarms = resources_of_type("AWS::CloudWatch::Alarm")

    assert len(alarms) >= 10
    for name, alarm in alarms.items():
        assert len(alarm["AlarmDescription"]) > 80, name
        condition, (topic,), _ = alarm["AlarmActions"].argument
        assert (condition, topic.argument) == ("HasAlarmTopic", "AlarmTopicArn"), name
