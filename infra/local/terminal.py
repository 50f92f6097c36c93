"""What the person at the terminal reads: one line per request, or the functions' own JSON."""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openreserve.logs import masked

_QUIET_LEVELS = {"DEBUG", "INFO"}


class Terminal:
    """Writes to standard output. `as_json`: the functions' lines as they are, and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def show_request(
        self, method: str, path: str, status: int, duration_ms: float, code: str
    ) -> None:
        """One line for a request that was answered, without its token: that is a secret."""
        if not self._as_json:
            line = f"{_now()}  {status}  {method} {masked(path)}  {duration_ms:.0f} ms  {code}"
            _write(line.rstrip())

    def show_line(self, environment: str, line: str) -> None:
        """A line that a function wrote. Its metrics are not for people, nor is what went well."""
        if self._as_json:
            _write(line)
            return
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
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
