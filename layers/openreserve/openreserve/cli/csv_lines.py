"""The lines of an import file: `resource_id,total_stock`, and `#` for comments. Pure."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from openreserve.stock import TOTAL_STOCK_MAX, is_resource_id

LINE_BYTES_MAX = 4_096
"""Far more than an id of 200 characters and a total: what is longer is not read to its end at once,
so that a file without an end of line takes no memory."""
HEADING = ["resource_id", "total_stock"]

_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that says how many units there shall be of a resource."""

    number: int
    resource_id: str
    total_stock: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that does not."""

    number: int
    reason: str


def raw_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file as they come; None for one that is too long."""
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)
        yield None


def parsed(lines: Iterable[bytes | None]) -> Iterator[Line | BadLine | None]:
    """What each line says; None: nothing, for it is empty, a comment or the heading."""
    for number, raw in enumerate(lines, 1):
        try:
            yield _parsed(number, raw)
        except ValueError as wrong:
            yield BadLine(number, str(wrong))


def _parsed(number: int, raw: bytes | None) -> Line | None:
    if raw is None:
        raise ValueError(f"is longer than {LINE_BYTES_MAX} bytes")
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if not text or text.startswith("#"):
        return None
    cells = _cells(text)
    if number == 1 and cells == HEADING:
        return None
    if len(cells) != len(HEADING):
        raise ValueError(f"has {len(cells)} columns instead of 2: resource_id,total_stock")
    resource_id, total = cells
    if not is_resource_id(resource_id):
        raise ValueError("resource_id must be 1 to 200 printable characters without a slash")
    if not _WHOLE_NUMBER.fullmatch(total) or int(total) > TOTAL_STOCK_MAX:
        raise ValueError(f"total_stock must be a whole number from 0 to {TOTAL_STOCK_MAX}")
    return Line(number, resource_id, int(total))


def _cells(text: str) -> list[str]:
    """The cells of one line. Not of several: one stray quote would swallow the rest of the file."""
    if '"' not in text:
        return [cell.strip() for cell in text.split(",")]
    try:
        return [
            cell.strip() for cell in next(csv.reader([text], strict=True, skipinitialspace=True))
        ]
    except csv.Error:
        raise ValueError("has a quote that does not end, or that stands inside a cell") from None
