"""What a load test prints at its end, and each minute of a soak."""

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
"""How often Locust writes its history; each entry is about the 10 seconds before."""


def verdict(
    environment: Environment, tally: Tally, stocks: Mapping[str, Stock], faults: Iterable[str]
) -> None:
    """Print the answers, the books and what is wrong with them."""
    _title("Answers", "count      min     mean      p95      p99      max  ms")
    for entry in sorted(environment.stats.entries.values(), key=lambda entry: entry.name):
        _say(_answers(entry))
    _title("Conservation", "as GET /resources/{resourceId} tells it")
    for resource_id, stock in stocks.items():
        _say(
            f"> {resource_id}: total {stock.total:,} = available {stock.available:,}"
            f" + held {stock.held:,} + committed {stock.committed:,}"
        )
    _say(f"> {len(tally.held):,} distinct tokens were given out")
    _say("=" * WIDTH)
    for fault in faults:
        _say(f"✗ {fault}")
    if not faults:
        _say("✓ Exact: every unit is accounted for, and nothing else was answered")


def write(environment: Environment, folder: Path, told: Mapping[str, Any]) -> None:
    """Keep the verdict and the counts in a folder.

    Not by Locust's --csv, which may miss the last second, and trips over its own closed files.
    """
    (folder / "verdict.json").write_text(json.dumps(told, indent=2) + "\n")
    with (folder / "stats.csv").open("w", newline="") as file:
        StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(file))


def minute(environment: Environment, number: int) -> None:
    """Print the latency in the minute that has ended: the median of what Locust took down."""
    taken = environment.stats.history[-60 // TAKEN_EVERY_SECONDS :]
    p50, p95, p99 = (
        median(entry[f"response_time_percentile_{percentile}"][1] for entry in taken)
        for percentile in PERCENTILES
    )
    rate = median(entry["current_rps"][1] for entry in taken)
    _say(f"minute {number}: {rate:.0f} calls/s, p50 {p50:.0f} ms, p95 {p95:.0f}, p99 {p99:.0f}")


def cannot_run(reason: Exception) -> None:
    sys.stderr.write(f"The load test cannot be run: {reason}\n")


def _answers(entry: StatsEntry) -> str:
    most = entry.max_response_time
    times = (
        entry.min_response_time or 0,
        entry.avg_response_time,
        min(most, entry.get_response_time_percentile(0.95)),  # Locust rounds it, and up too
        min(most, entry.get_response_time_percentile(0.99)),
        most,
    )
    return f"> {entry.name:<26}{entry.num_requests:7}" + "".join(f"{time:9.0f}" for time in times)


def _title(title: str, rest: str) -> None:
    _say("=" * WIDTH)
    _say(f"---- {title} {'-' * (22 - len(title))} {rest}")


def _say(line: str) -> None:
    print(line, flush=True)
