"""Progress of an import: a bar on a terminal, plain lines elsewhere, and the refused lines."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping

import click
from click._termui_impl import ProgressBar

from openreserve_client.cli import output

LINES_PER_MESSAGE = 10_000
BAR_STEPS = 500

_ERASE_LINE = "\r\x1b[K"


class Progress:
    """Counts and reports results. Thread-safe. Standard output gets only the summary."""

    def __init__(self, path: str, size: int | None, *, as_json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.refused = 0
        self._path, self._as_json = path, as_json
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._reported_lines = 0
        self._unshown_bytes = 0
        self._step_bytes = max((size or 0) // BAR_STEPS, 1)
        self._bar = _bar(size) if sys.stderr.isatty() and size else None

    def read(self, size: int) -> None:
        """Record the number of bytes read from the file."""
        with self._lock:
            self._unshown_bytes += size
            if self._bar is not None and self._unshown_bytes >= self._step_bytes:
                self._bar.update(self._unshown_bytes)
                self._unshown_bytes = 0

    def advance(self, outcomes: Mapping[str, int]) -> None:
        """Record the number of lines per outcome."""
        with self._lock:
            self.counts.update(outcomes)
            done = self.counts.total() + self.refused
            if self._bar is None and done - self._reported_lines >= LINES_PER_MESSAGE:
                self._reported_lines = done
                click.echo(f"{done:,} lines: {self._summary()}", err=True)

    def refuse(self, line: int, code: str, reason: str) -> None:
        """Report a refused line."""
        with self._lock:
            self.refused += 1
            if self._as_json:
                output.write_json({"line": line, "code": code, "reason": reason})
            else:
                erase = _ERASE_LINE if self._bar is not None else ""
                click.echo(f"{erase}{self._path}:{line}: {code}: {reason}", err=True)
                self._redraw()

    def stop(self) -> None:
        """Leave the bar as it is and show the terminal's cursor again."""
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def finish(self) -> None:
        """Print the summary."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(self._unshown_bytes)
            self.stop()
            seconds = time.monotonic() - self._started
            if self._as_json:
                output.write_json({**self.counts, "refused": self.refused})
            else:
                total = self.counts.total() + self.refused
                click.echo(f"{total:,} lines in {seconds:.1f} s: {self._summary()}")

    def _redraw(self) -> None:
        """Draw the bar again below a message, even if it has not changed."""
        if self._bar is not None:
            self._bar._last_line = None  # noqa: SLF001 - click has no public way
            self._bar.render_progress()

    def _summary(self) -> str:
        counts = [f"{count:,} {outcome}" for outcome, count in sorted(self.counts.items())]
        return ", ".join([*counts, f"{self.refused:,} refused"])


def _bar(size: int) -> "ProgressBar[int]":
    bar: ProgressBar[int] = click.progressbar(length=size, label="Importing", file=sys.stderr)
    bar.render_progress()
    return bar
