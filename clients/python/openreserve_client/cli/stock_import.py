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

from openreserve_client.cli import api, output
from openreserve_client.cli.command_error import CommandError
from openreserve_client.cli.csv_lines import BadLine, Line, LongLine, parsed, raw_lines
from openreserve_client.cli.import_workers import ImportWorkers
from openreserve_client.cli.progress import Progress
from openreserve_client.errors import NotAnswered, OpenReserveError
from openreserve_client.models import RowResult

PATIENCE_SECONDS = 60.0
STOP_SECONDS_MAX = 15.0
"""How long an interrupted import waits for the batches in progress."""
SUCCESSES = ("created", "changed", "unchanged")


@click.command("import")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    required=True,
    help="CSV file; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Validate all lines without sending them.")
@click.option(
    "--from-line",
    "first_line",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Start at this line, to resume an import that stopped there.",
)
@click.option(
    "--lanes",
    metavar="N",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Number of batches to send concurrently.",
)
@click.option(
    "--batch-rows",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Maximum number of lines in a batch.",
)
@output.json_option
def import_file(path: str, **options: Any) -> int:
    """Create resources, or set their totals, from a CSV file.

    Each line is resource_id,total_stock. Lines that begin with # are comments. Cells may be quoted
    and are not trimmed. For semicolons as separator, the first line must be the heading
    resource_id;total_stock. If several lines name the same resource, the last one wins. It is safe
    to repeat an import.

    Invalid and refused lines are printed to standard error with their line numbers; all others are
    imported.

    Exit code: 0 if all lines were imported, 1 if some were refused, 2 if the import stopped early;
    the error then has the line to resume from.
    """
    with click.open_file(path, "rb") as file, _sigterm_as_interrupt():
        progress = Progress(path, _size(file, path), as_json=options["as_json"])
        stock_import = _Import(path, options["first_line"], progress)
        try:
            if options["dry_run"]:
                for _ in stock_import.lines(file):
                    progress.counts["valid"] += 1
            else:
                _send(stock_import, file, options)
            progress.finish()
        finally:
            progress.stop()
    return 1 if progress.refused else 0


@dataclass
class _Import:
    """An import in progress."""

    path: str
    first_line: int
    progress: Progress
    lines_read: int = 0

    def lines(self, file: IO[bytes]) -> Iterator[Line]:
        """The valid lines from `first_line` on. Reports invalid ones."""
        for number, line in enumerate(parsed(self._counted(file)), 1):
            self.lines_read = number
            if number < self.first_line or line is None:
                continue
            if isinstance(line, BadLine):
                self.progress.refuse(line.number, "line_invalid", line.reason)
            else:
                yield line

    def record(self, lines: Sequence[Line], results: Sequence[RowResult]) -> None:
        """Report the results of a batch."""
        for line, result in zip(lines, results, strict=True):
            if result.outcome not in SUCCESSES:
                reason = f"{line.resource_id}: {result.reason}"
                self.progress.refuse(line.number, result.outcome, reason)
        successes = (result.outcome for result in results if result.outcome in SUCCESSES)
        self.progress.advance(Counter(successes))

    def _counted(self, file: IO[bytes]) -> Iterator[bytes | LongLine]:
        for raw in raw_lines(file):
            self.progress.read(len(raw))
            yield raw


def _send(stock_import: _Import, file: IO[bytes], options: dict[str, Any]) -> None:
    with api.client(PATIENCE_SECONDS) as client:
        workers = ImportWorkers(
            client, stock_import.record, count=options["lanes"], batch_rows=options["batch_rows"]
        )
        try:
            workers.send(stock_import.lines(file))
        except KeyboardInterrupt:
            workers.stop(STOP_SECONDS_MAX)
            raise CommandError(_stopped(stock_import, workers, "interrupted"), 2) from None
        if workers.failure is not None:
            workers.stop(STOP_SECONDS_MAX)
            if not isinstance(workers.failure, (OpenReserveError, NotAnswered)):
                raise workers.failure
            reason = api.line_of(workers.failure)
            raise CommandError(_stopped(stock_import, workers, reason), 2)


def _stopped(stock_import: _Import, workers: ImportWorkers, reason: str) -> str:
    """The error line of an import that stopped early."""
    line = max(workers.first_open(stock_import.lines_read), stock_import.first_line)
    return (
        f"{reason}; stopped at line {line}, all lines before it are imported. Resume with:"
        f" openreserve stock import --file {stock_import.path} --from-line {line}"
    )


def _size(file: IO[bytes], path: str) -> int | None:
    """The size of the file in bytes; None for standard input."""
    return None if path == "-" else os.fstat(file.fileno()).st_size


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the import reports where it stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
