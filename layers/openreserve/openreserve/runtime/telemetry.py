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

NAMESPACE = "OpenReserve"

_TOKEN = re.compile(r"\b([0-9a-f]{8})-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)


_TRACE = re.compile(r"Root=([^;]+)")
_SERVER_ERROR = 500


def masked(text: str) -> str:
    """The text with all but the beginning of each token left out."""
    return _TOKEN.sub(r"\1…", text)


def logger() -> Logger:
    """The logger. Its service is POWERTOOLS_SERVICE_NAME, its level POWERTOOLS_LOG_LEVEL."""
    with _making:  # two that are made at once would write each line twice
        return _logger()


@cache
def _logger() -> Logger:
    return Logger()


_making = threading.Lock()


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
    """Write one line, which is a log entry and metrics at once (CloudWatch's embedded format).

    `dimensions` are words, never ids: each new value would be billed as another metric. What else
    is to be found in the log goes into `facts`. The trace is added under the logger's own name.
    """
    line = _line()
    for name, word in (dimensions or {}).items():
        line.add_dimension(name, word)
    for name, value in metrics.items():
        line.add_metric(name, METRICS[name].unit, value)
    for name, fact in {**(facts or {}), **_trace(), **_version(facts or {})}.items():
        line.add_metadata(name, fact)
    # In one piece: another thread may be writing, too.
    sys.stdout.write(json.dumps(line.serialize_metric_set(), separators=(",", ":")) + "\n")
    line.clear_metrics()


def _trace() -> Mapping[str, str]:
    """The X-Ray trace of this invocation; the runtime writes it into the environment each time."""
    found = _TRACE.match(os.environ.get("_X_AMZN_TRACE_ID", ""))
    return {"xray_trace_id": found[1]} if found else {}


def _version(facts: Mapping[str, Any]) -> Mapping[str, str]:
    """Which code answered 5xx: deployments go back when new versions do, and ignore old ones."""
    if facts.get("status", 0) < _SERVER_ERROR:
        return {}
    return {
        "functionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        "functionVersion": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
    }


def _line() -> EphemeralMetrics:
    if _of_this_thread.line is None:
        _of_this_thread.line = EphemeralMetrics(namespace=NAMESPACE)
    return _of_this_thread.line


@contextmanager
def measured(metric: str) -> Iterator[None]:
    """Add the time that the block takes, in milliseconds, to the metric of the call under way."""
    started = time.perf_counter()
    try:
        yield
    finally:
        spent_ms = (time.perf_counter() - started) * 1_000
        mine = _of_this_thread.spent_ms
        mine[metric] = mine.get(metric, 0) + spent_ms


def take() -> dict[str, float]:
    """What was measured since the last time, by metric."""
    spent_ms, _of_this_thread.spent_ms = _of_this_thread.spent_ms, {}
    return spent_ms


def emit_expired(lags_ms: Sequence[int], path: str) -> None:
    """One line for a batch of expired holds that were closed, by how late each was closed."""
    if lags_ms:
        emit({"HoldsExpired": len(lags_ms), "ExpiryLag": max(lags_ms)}, dimensions={"path": path})


def emit_reclaimed(closed: int) -> None:
    """One line for expired holds that were closed because a reserve needed their stock."""
    if closed:
        emit({"HoldsExpired": closed}, dimensions={"path": "reclaim"})


class _Thread(threading.local):
    """The telemetry of this thread: a function carries out one call at a time."""

    def __init__(self) -> None:
        self.line: EphemeralMetrics | None = None
        self.spent_ms: dict[str, float] = {}


_of_this_thread = _Thread()
