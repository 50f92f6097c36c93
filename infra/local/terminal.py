"""What the person at the terminal reads: one line per request, or the functions' own JSON."""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from infra.local.gateway import Answered
from openreserve.runtime.telemetry import masked

_QUIET_LEVELS = {"DEBUG", "INFO"}


class Terminal:
    """Writes to standard output. `as_json`: the functions' lines as they are, and nothing else.

    `take_metrics` gets each line of metrics, which people do not read.
    """

    def __init__(self, *, as_json: bool, take_metrics: Callable[[Mapping[str, Any]], None]) -> None:
        self._as_json = as_json
        self._take_metrics = take_metrics

    def show_answer(self, answer: Answered) -> None:
        """One line for a request that was answered, without its token: that is a secret."""
        if not self._as_json:
            told = f"{answer.method} {masked(answer.path)}  {answer.duration_ms:.0f} ms"
            _write(f"{_now()}  {answer.status}  {told}  {answer.code}".rstrip())

    def show_line(self, environment: str, line: str) -> None:
        """A line that a function wrote. Its metrics are not for people, nor is what went well."""
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and "_aws" in entry:
            self._take_metrics(entry)
        if self._as_json:
            _write(line)
        elif not isinstance(entry, dict):
            _write(f"{_now()}  {environment}: {line}")
        elif "Deliveries" in entry and entry["outcome"] != "delivered":
            _write(f"{_now()}  {_delivery(entry)}")
        elif "_aws" not in entry and entry.get("level") not in _QUIET_LEVELS:
            told = [str(entry.get("message", line)), str(entry.get("reason", ""))]
            _write(f"{_now()}  {environment}: {' '.join(told).rstrip()}")
            if "trace" in entry:
                _write(str(entry["trace"]))


def _delivery(entry: Mapping[str, Any]) -> str:
    """What became of a webhook that was not delivered."""
    told = f"webhook {entry.get('endpointId', '?')}: {entry['outcome']}"
    reason = entry.get("reason", "")
    return f"{told}, attempt {entry.get('attempt', '?')}: {reason}" if reason else told


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
