"""`openreserve stock import`."""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

import click

from openreserve.cli import api, output
from openreserve.cli.csv_lines import BadLine, Line, LongLine, parsed, raw_lines
from openreserve.cli.lanes import ImportWorkers
from openreserve.cli.progress import Progress
from openreserve.cli.told import CommandError
from openreserve.client import NotAnswered, Row
from openreserve.domain.errors import OpenReserveError

PATIENCE_SECONDS = 60.0
STOP_SECONDS_MAX = 15.0
"""How long an import that was interrupted waits for what is under way."""
DONE = ("created", "changed", "unchanged")


@click.command("import")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    required=True,
    help="The file; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Check all lines, and send nothing.")
@click.option(
    "--from-line",
    "first",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Begin at this line: where an import that stopped said it stopped.",
)
@click.option(
    "--lanes",
    metavar="N",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Batches that are under way at once.",
)
@click.option(
    "--batch-rows",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Lines in one batch.",
)
@output.json_option
def import_file(path: str, **options: Any) -> int:
    """Create resources, or set their totals, from a CSV file.

    Each line is resource_id,total_stock; lines that begin with # are comments. Cells may be quoted,
    and are not trimmed. A file whose heading is resource_id;total_stock has semicolons. Of several
    lines about one resource the last one counts. An import can be repeated: what is already so is
    left alone.

    Refused lines are written to standard error with their numbers; the others are set. Exits with 0
    if all lines were set, 1 if some were refused, and 2 if it could not run to the end; then it
    says at which line to go on.
    """
    with click.open_file(path, "rb") as file, _terminable():
        progress = Progress(path, _size(file, path), as_json=options["as_json"])
        run = _Import(path, options["first"], progress)
        try:
            if options["dry_run"]:
                for _ in run.lines(file):
                    progress.counts["valid"] += 1
            else:
                _send(run, file, options)
            progress.finish()
        finally:
            progress.stop()
    return 1 if progress.refused else 0


@dataclass
class _Import:
    """An import that is under way."""

    path: str
    first: int
    progress: Progress
    read: int = 0
    """Lines that were read."""

    def lines(self, file: IO[bytes]) -> Iterator[Line]:
        """The lines that are to be sent. What is wrong with the others is told."""
        for number, line in enumerate(parsed(self._counted(file)), 1):
            self.read = number
            if number < self.first or line is None:
                continue
            if isinstance(line, BadLine):
                self.progress.refuse(line.number, "line_invalid", line.reason)
            else:
                yield line

    def answered(self, lines: Sequence[Line], rows: Sequence[Row]) -> None:
        """Tell what became of a batch."""
        for line, row in zip(lines, rows, strict=True):
            if row.outcome not in DONE:
                said = f"{line.resource_id}: {row.reason}"
                self.progress.refuse(line.number, row.outcome, said)
        outcomes = Counter(row.outcome for row in rows if row.outcome in DONE)
        self.progress.advance(outcomes)

    def _counted(self, file: IO[bytes]) -> Iterator[bytes | LongLine]:
        for raw in raw_lines(file):
            self.progress.read(len(raw))
            yield raw


def _send(run: _Import, file: IO[bytes], options: dict[str, Any]) -> None:
    with api.client(PATIENCE_SECONDS) as client:
        lanes = ImportWorkers(
            client, run.answered, count=options["lanes"], batch_rows=options["batch_rows"]
        )
        try:
            lanes.send(run.lines(file))
        except KeyboardInterrupt:
            lanes.stop(STOP_SECONDS_MAX)
            raise CommandError(_where(run, lanes, "interrupted"), 2) from None
        if lanes.failure is not None:
            lanes.stop(STOP_SECONDS_MAX)
            if not isinstance(lanes.failure, (OpenReserveError, NotAnswered)):
                raise lanes.failure
            raise CommandError(_where(run, lanes, api.line_of(lanes.failure)), 2)


def _where(run: _Import, lanes: ImportWorkers, reason: str) -> str:
    line = max(lanes.first_open(run.read), run.first)
    return (
        f"{reason}; stopped at line {line}, all before it are done. Go on with:"
        f" openreserve stock import --file {run.path} --from-line {line}"
    )


def _size(file: IO[bytes], path: str) -> int | None:
    """How large the file is; None, if only its end will tell."""
    return None if path == "-" else os.fstat(file.fileno()).st_size


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes of SIGTERM what Ctrl-C is, so that it too says where it stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
