"""Logs, metrics and timings of a function, as JSON lines.

Tokens are masked: they are bearer secrets.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from openreserve.runtime.per_thread import PerThread

NAMESPACE = "OpenReserve"

_TOKEN = re.compile(r"\b([0-9a-f]{8})-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)
_TRACE = re.compile(r"Root=([^;]+)")
_SERVER_ERROR = 500


def masked(text: str) -> str:
    """The text with each token shortened to its first eight digits."""
    return _TOKEN.sub(r"\1…", text)


def logger() -> Logger:
    """The logger. Its service is POWERTOOLS_SERVICE_NAME, its level POWERTOOLS_LOG_LEVEL."""
    with _creating:  # two loggers created concurrently would write each line twice
        return _logger()


@cache
def _logger() -> Logger:
    return Logger()


_creating = threading.Lock()


@dataclass(frozen=True, slots=True)
class Metric:
    """The unit of a metric, as CloudWatch names it, and the meaning, as the docs print it."""

    unit: str
    meaning: str


METRICS: Mapping[str, Metric] = {
    "Requests": Metric("Count", "HTTP requests, by route and outcome."),
    "Duration": Metric("Milliseconds", "Time that a request took in its function."),
    "PostgresDuration": Metric(
        "Milliseconds", "Time of a request that was spent waiting for Postgres."
    ),
    "RedisDuration": Metric("Milliseconds", "Time of a request that was spent waiting for Redis."),
    "ColdStarts": Metric("Count", "Execution environments that were started."),
    "RefusalsByMarker": Metric(
        "Count", "`out_of_stock` answers from the marker in Redis, without Postgres."
    ),
    "RefusalsByPostgres": Metric("Count", "`out_of_stock` answers from Postgres."),
    "HoldsExpired": Metric("Count", "Expired holds that were closed, by path."),
    "ExpiryLag": Metric(
        "Milliseconds", "Greatest time from a deadline to the closing of its hold."
    ),
    "EventsHandedOn": Metric("Count", "Events that the outbox sent to the queue."),
    "EventsNotTaken": Metric(
        "Count", "Events that the queue refused; the outbox sends them again."
    ),
    "OutboxAge": Metric("Milliseconds", "Age of the oldest event of a batch when it was sent."),
    "Deliveries": Metric("Count", "Attempts to deliver to an endpoint, by outcome."),
    "ResourcesChecked": Metric("Count", "Resources whose counter was audited."),
    "ResourcesDrifting": Metric(
        "Count", "Resources whose counter differs from their reservations."
    ),
}
"""All metrics. Dashboards and alarms name these and no others."""


def emit(
    metrics: Mapping[str, float],
    *,
    dimensions: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write one line that is a log entry and metrics (CloudWatch embedded metric format).

    `dimensions` are words, never ids: each new value would be billed as another metric. Other
    fields of the log entry go into `facts`. The X-Ray trace id is added as the logger does.
    """
    line = _line()
    for name, word in (dimensions or {}).items():
        line.add_dimension(name, word)
    for name, value in metrics.items():
        line.add_metric(name, METRICS[name].unit, value)
    for name, fact in {**(facts or {}), **_trace(), **_version(facts or {})}.items():
        line.add_metadata(name, fact)
    # One write call, because other threads write concurrently.
    sys.stdout.write(json.dumps(line.serialize_metric_set(), separators=(",", ":")) + "\n")
    line.clear_metrics()


def _trace() -> Mapping[str, str]:
    """The X-Ray trace id of this invocation; the runtime sets it in the environment each time."""
    match = _TRACE.match(os.environ.get("_X_AMZN_TRACE_ID", ""))
    return {"xray_trace_id": match[1]} if match else {}


def _version(facts: Mapping[str, Any]) -> Mapping[str, str]:
    """The version that answered 5xx: a deployment rolls back on errors of the new version only."""
    if facts.get("status", 0) < _SERVER_ERROR:
        return {}
    return {
        "functionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        "functionVersion": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
    }


def _line() -> EphemeralMetrics:
    return _thread_line.get()


@contextmanager
def measured(metric: str) -> Iterator[None]:
    """Add the duration of the block, in milliseconds, to a metric of the present call."""
    started = time.perf_counter()
    try:
        yield
    finally:
        durations_ms = _durations_ms.get()
        duration_ms = (time.perf_counter() - started) * 1_000
        durations_ms[metric] = durations_ms.get(metric, 0) + duration_ms


def take() -> dict[str, float]:
    """The durations since the last call, by metric."""
    durations_ms = _durations_ms.get()
    _durations_ms.set({})
    return durations_ms


def emit_expired(lags_ms: Sequence[int], path: str) -> None:
    """Write one line for a batch of expired holds. `lags_ms`: how late each was closed."""
    if lags_ms:
        emit({"HoldsExpired": len(lags_ms), "ExpiryLag": max(lags_ms)}, dimensions={"path": path})


def emit_reclaimed(closed: int) -> None:
    """Write one line for expired holds that reclaims have closed."""
    if closed:
        emit({"HoldsExpired": closed}, dimensions={"path": "reclaim"})


_thread_line = PerThread(lambda: EphemeralMetrics(namespace=NAMESPACE))
_durations_ms: PerThread[dict[str, float]] = PerThread(dict)
