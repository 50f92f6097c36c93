"""How far an import has come: a bar on a terminal, plain lines elsewhere, and what was refused."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping

import click
from click._termui_impl import ProgressBar

from openreserve.cli import output

LINES_PER_MESSAGE = 10_000
BAR_STEPS = 500

_ERASE_LINE = "\r\x1b[K"


class Progress:
    """What was done and refused. Any thread may tell it. Standard output gets the summary alone."""

    def __init__(self, path: str, size: int | None, *, as_json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.refused = 0
        self._path, self._as_json = path, as_json
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._told = 0
        self._unshown_bytes = 0
        self._step_bytes = max((size or 0) // BAR_STEPS, 1)
        self._bar = _bar(size) if sys.stderr.isatty() and size else None

    def read(self, size: int) -> None:
        """So many bytes of the file were read."""
        with self._lock:
            self._unshown_bytes += size
            if self._bar is not None and self._unshown_bytes >= self._step_bytes:
                self._bar.update(self._unshown_bytes)
                self._unshown_bytes = 0

    def advance(self, outcomes: Mapping[str, int]) -> None:
        """So many lines had these outcomes."""
        with self._lock:
            self.counts.update(outcomes)
            done = self.counts.total() + self.refused
            if self._bar is None and done - self._told >= LINES_PER_MESSAGE:
                self._told = done
                click.echo(f"{done:,} lines: {self._summary()}", err=True)

    def refuse(self, line: int, code: str, reason: str) -> None:
        """The line was refused."""
        with self._lock:
            self.refused += 1
            if self._as_json:
                output.write_json({"line": line, "code": code, "reason": reason})
            else:
                erased = _ERASE_LINE if self._bar is not None else ""
                click.echo(f"{erased}{self._path}:{line}: {code}: {reason}", err=True)
                self._draw_anew()

    def stop(self) -> None:
        """Leave the bar as it is, and give the terminal its cursor back."""
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def finish(self) -> None:
        """Say what became of all lines."""
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

    def _draw_anew(self) -> None:
        """Below a message, the bar is drawn again, even if it looks as before."""
        if self._bar is not None:
            self._bar._last_line = None  # noqa: SLF001 - click has no other way
            self._bar.render_progress()

    def _summary(self) -> str:
        counted = [f"{count:,} {outcome}" for outcome, count in sorted(self.counts.items())]
        return ", ".join([*counted, f"{self.refused:,} refused"])


def _bar(size: int) -> "ProgressBar[int]":
    bar: ProgressBar[int] = click.progressbar(length=size, label="Importing", file=sys.stderr)
    bar.render_progress()
    return bar
