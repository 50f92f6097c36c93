"""Output of a load test at its end, and each minute of a soak test."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from locust.env import Environment
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV, StatsEntry

from tests.load.verdict import Stock, Tally

WIDTH = 80
PERCENTILES = [0.5, 0.95, 0.99]
TAKEN_EVERY_SECONDS = 5
"""Interval of Locust's history. Each entry covers the previous 10 seconds."""


def verdict(
    environment: Environment, tally: Tally, stocks: Mapping[str, Stock], faults: Iterable[str]
) -> None:
    """Print the responses, the final stock and the faults."""
    _title("Responses", "count      min     mean      p95      p99      max  ms")
    for entry in sorted(environment.stats.entries.values(), key=lambda entry: entry.name):
        _print(_row(entry))
    _title("Conservation", "from GET /resources/{resourceId}")
    for resource_id, stock in stocks.items():
        _print(
            f"> {resource_id}: total {stock.total:,} = available {stock.available:,}"
            f" + held {stock.held:,} + committed {stock.committed:,}"
        )
    _print(f"> {len(tally.held):,} distinct tokens were issued")
    _print("=" * WIDTH)
    for fault in faults:
        _print(f"✗ {fault}")
    if not faults:
        _print("✓ Exact: every unit is accounted for, with no unexpected responses")


def write(environment: Environment, folder: Path, result: Mapping[str, Any]) -> None:
    """Write the verdict and the counts to a folder.

    Locust's --csv is not used: it may miss the last second, and fails on its own closed files.
    """
    (folder / "verdict.json").write_text(json.dumps(result, indent=2) + "\n")
    with (folder / "stats.csv").open("w", newline="") as file:
        StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(file))


def minute(environment: Environment, number: int) -> None:
    """Print the latency of the last minute: the median of Locust's history."""
    entries = environment.stats.history[-60 // TAKEN_EVERY_SECONDS :]
    p50, p95, p99 = (
        median(entry[f"response_time_percentile_{percentile}"][1] for entry in entries)
        for percentile in PERCENTILES
    )
    rate = median(entry["current_rps"][1] for entry in entries)
    _print(f"minute {number}: {rate:.0f} calls/s, p50 {p50:.0f} ms, p95 {p95:.0f}, p99 {p99:.0f}")


def cannot_run(reason: Exception) -> None:
    sys.stderr.write(f"Could not run the load test: {reason}\n")


def _row(entry: StatsEntry) -> str:
    most = entry.max_response_time
    times = (
        entry.min_response_time or 0,
        entry.avg_response_time,
        min(most, entry.get_response_time_percentile(0.95)),  # Locust may round it up
        min(most, entry.get_response_time_percentile(0.99)),
        most,
    )
    return f"> {entry.name:<26}{entry.num_requests:7}" + "".join(f"{time:9.0f}" for time in times)


def _title(title: str, rest: str) -> None:
    _print("=" * WIDTH)
    _print(f"---- {title} {'-' * (22 - len(title))} {rest}")


def _print(line: str) -> None:
    print(line, flush=True)
