"""/metrics of the local runtime in Prometheus format: metrics of the functions and of the runtime.

Parses the metric lines that functions print in CloudWatch's embedded metric format:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from infra.local.http.gateway import CompletedRequest
from infra.local.lambdas.pool import Pool

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IGNORED_DIMENSIONS = {"service"}
_CONNECTIONS = """
SELECT CASE WHEN wait_event_type = 'Lock' THEN 'waiting'
            WHEN state = 'idle' THEN 'idle'
            ELSE 'active' END AS state,
       count(*)
  FROM pg_stat_activity
 WHERE usename = 'openreserve_app' AND datname = current_database()
 GROUP BY 1
"""


class Exposition:
    """All metrics of one runtime."""

    def __init__(self, database_url: str) -> None:
        # `_created` series double the output. Prometheus detects resets by lower values.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._database_url = database_url
        self._metrics: dict[str, Counter | Histogram] = {}
        self._requests = Histogram(
            "openreserve_http_request_seconds",
            "Time from a request to its response, at the gateway",
            ("route", "status"),
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._waits = Histogram(
            "openreserve_event_wait_seconds",
            "How long events waited for an environment",
            ("function",),
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )

    def watch(self, pools: Sequence[Pool]) -> None:
        """Expose the environments of these pools."""
        for pool in pools:
            pool.take_wait_seconds = self._waits.labels(_name(pool)).observe
        self._registry.register(_Environments(pools))

    def take_request(self, request: CompletedRequest) -> None:
        """Observe the duration of a completed request."""
        series = self._requests.labels(request.route, str(request.status))
        series.observe(request.duration_ms / 1_000)

    def take_line(self, entry: Mapping[str, Any]) -> None:
        """Count the values of a metric line."""
        for directive in entry["_aws"]["CloudWatchMetrics"]:
            labels = {
                _snake(name): str(entry[name])
                for name in directive["Dimensions"][0]
                if name not in _IGNORED_DIMENSIONS
            }
            for metric in directive["Metrics"]:
                values = entry[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    self._count(metric["Name"], metric.get("Unit", "None"), labels, value)

    async def answer(self, _request: web.Request) -> web.Response:
        """All metrics, in the text format of Prometheus."""
        connections = await asyncio.to_thread(self._connections)
        text = generate_latest(self._registry) + connections
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE_LATEST})

    def _count(self, name: str, unit: str, labels: Mapping[str, str], value: float) -> None:
        is_time = unit == "Milliseconds"
        full_name = exposed_name(name, unit)
        metric = self._metrics.get(full_name)
        if metric is None:
            kind = Histogram if is_time else Counter
            extra: dict[str, Any] = {"buckets": BUCKETS_SECONDS} if is_time else {}
            metric = kind(
                full_name,
                f"{name}, as reported by functions",
                sorted(labels),
                registry=self._registry,
                **extra,
            )
            self._metrics[full_name] = metric
        series = metric.labels(**labels) if labels else metric
        if isinstance(series, Histogram):
            series.observe(value / 1_000)
        else:
            series.inc(value)

    def _connections(self) -> bytes:
        """Connections of the functions by state, from pg_stat_activity. Empty without Postgres."""
        gauge = GaugeMetricFamily(
            "openreserve_postgres_connections", "Connections of the functions", labels=["state"]
        )
        try:
            with psycopg.connect(self._database_url, connect_timeout=2) as connection:
                counts: dict[str, int] = dict(connection.execute(_CONNECTIONS).fetchall())
        except psycopg.OperationalError:
            return b""
        for state in ("active", "idle", "waiting"):
            gauge.add_metric([state], counts.get(state, 0))
        registry = CollectorRegistry()
        registry.register(_Fixed(gauge))
        return generate_latest(registry)


def exposed_name(name: str, unit: str) -> str:
    """The Prometheus name of a CloudWatch metric, without suffixes such as `_total`."""
    return f"openreserve_{_snake(name)}" + ("_seconds" if unit == "Milliseconds" else "")


class _Fixed(Collector):
    def __init__(self, *families: GaugeMetricFamily) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families


class _Environments(Collector):
    """Execution environments by function and state, and queued events by function."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[GaugeMetricFamily]:
        environments = GaugeMetricFamily(
            "openreserve_environments", "Execution environments", labels=["function", "state"]
        )
        queued = GaugeMetricFamily(
            "openreserve_events_waiting",
            "Events that wait for an environment",
            labels=["function"],
        )
        for pool in self._pools:
            name = _name(pool)
            for state, count in pool.states().items():
                environments.add_metric([name, state], count)
            queued.add_metric([name], pool.queued)
        yield environments
        yield queued


def _name(pool: Pool) -> str:
    return pool.function.name.removesuffix("Function")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
