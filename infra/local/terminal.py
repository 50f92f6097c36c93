"""Terminal output of the runtime: one line per request, or the JSON lines of the functions."""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from infra.local.http.gateway import CompletedRequest
from openreserve.runtime.telemetry import masked

_QUIET_LEVELS = {"DEBUG", "INFO"}


class Terminal:
    """Writes to standard output. `as_json`: only the lines of the functions, unchanged.

    `take_metrics` gets each metric line; metric lines are not shown as text.
    """

    def __init__(self, *, as_json: bool, take_metrics: Callable[[Mapping[str, Any]], None]) -> None:
        self._as_json = as_json
        self._take_metrics = take_metrics

    def show_request(self, request: CompletedRequest) -> None:
        """One line per request. Tokens in the path are masked: they are secrets."""
        if not self._as_json:
            call = f"{request.method} {masked(request.path)}  {request.duration_ms:.0f} ms"
            _write(f"{_now()}  {request.status}  {call}  {request.code}".rstrip())

    def show_line(self, environment: str, line: str) -> None:
        """A line of a function: warnings, errors and failed deliveries. Metrics are not shown."""
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
            text = f"{entry.get('message', line)} {entry.get('reason', '')}".rstrip()
            _write(f"{_now()}  {environment}: {text}")
            if "trace" in entry:
                _write(str(entry["trace"]))


def _delivery(entry: Mapping[str, Any]) -> str:
    """The outcome of a failed webhook delivery."""
    outcome = f"webhook {entry.get('endpointId', '?')}: {entry['outcome']}"
    reason = entry.get("reason", "")
    return f"{outcome}, attempt {entry.get('attempt', '?')}: {reason}" if reason else outcome


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
