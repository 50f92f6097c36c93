"""Parser of import files: `resource_id,total_stock` lines, and `#` comments. Pure.

docs/how-to/import.md documents the format. A record is one line. A record of several lines
is refused as a whole, so that none of its lines is read as a record.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from openreserve_client.resource_ids import TOTAL_STOCK_MAX, normalized_resource_id

LINE_BYTES_MAX = 4_096
"""Far more than an id of 200 characters and a total. A longer line is skipped in chunks, so that a
file without line ends needs no memory."""
HEADING = ["resource_id", "total_stock"]
SEPARATORS = (",", ";")

_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_UNQUOTED = {separator: re.compile(rf'[^"{separator}]*') for separator in SEPARATORS}


@dataclass(frozen=True, slots=True)
class Line:
    """A valid line: the total of a resource."""

    number: int
    resource_id: str
    total_stock: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """An invalid line."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class LongLine:
    """The properties of a line that is too long to keep."""

    size: int
    quotes: int
    """The number of quotes."""
    is_quoted: bool
    """Whether its first character is a quote."""

    def __len__(self) -> int:
        """The length in bytes."""
        return self.size


class _UnclosedError(ValueError):
    """A quoted cell does not end in its line."""


def raw_lines(file: IO[bytes]) -> Iterator[bytes | LongLine]:
    """The undecoded lines of a file."""
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
        else:
            yield _read_to_end(line, file)


def parsed(lines: Iterable[bytes | LongLine]) -> Iterator[Line | BadLine | None]:
    """Parse each line.

    None: the line is empty, a comment, the heading, or the continuation of a refused record.
    """
    reader = _Reader()
    for number, raw in enumerate(lines, 1):
        try:
            yield reader.read(number, raw)
        except ValueError as error:
            yield BadLine(number, str(error))


class _Reader:
    """The state of the parser between lines."""

    def __init__(self) -> None:
        self._separator = ""
        """Empty until the first record, which may be the heading."""
        self._in_quotes = False
        """Whether a quoted cell continues from the previous line."""

    def read(self, number: int, raw: bytes | LongLine) -> Line | None:
        if self._in_quotes:
            self._in_quotes = _count_quotes(raw) % 2 == 0
            return None
        if isinstance(raw, LongLine):
            self._in_quotes = raw.is_quoted and raw.quotes % 2 == 1
            raise ValueError(f"is longer than {LINE_BYTES_MAX} bytes")  # noqa: TRY004 - not a type
        try:
            return self._read_text(number, _decoded(number, raw, "strict"))
        except _UnclosedError:
            self._in_quotes = True
            raise
        except UnicodeDecodeError:
            self._in_quotes = _is_unclosed(_decoded(number, raw, "replace"), self._separator)
            raise ValueError("is not UTF-8") from None

    def _read_text(self, number: int, text: str) -> Line | None:
        if not text.strip(" " + (self._separator or "".join(SEPARATORS))):
            return None
        if text.lstrip(" ").startswith("#"):
            return None
        if not self._separator:
            self._separator, is_heading = _detect_separator(text)
            if is_heading:
                return None
        return _line(number, _cells(text, self._separator))


def _read_to_end(line: bytes, file: IO[bytes]) -> LongLine:
    is_quoted, size, quotes = line.startswith(b'"'), 0, 0
    while line:
        size, quotes = size + len(line), quotes + line.count(b'"')
        line = b"" if line.endswith(b"\n") else file.readline(LINE_BYTES_MAX)
    return LongLine(size, quotes, is_quoted=is_quoted)


def _count_quotes(raw: bytes | LongLine) -> int:
    return raw.quotes if isinstance(raw, LongLine) else raw.count(b'"')


def _decoded(number: int, raw: bytes, errors: str) -> str:
    text = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    return text.removesuffix("\n").removesuffix("\r")


def _detect_separator(text: str) -> tuple[str, bool]:
    """The separator, detected from the first record, and whether that record is the heading."""
    for separator in SEPARATORS:
        with suppress(ValueError):
            if _cells(text, separator) == HEADING:
                return separator, True
    return SEPARATORS[0], False


def _line(number: int, cells: list[str]) -> Line:
    if len(cells) != len(HEADING):
        hint = "; semicolons need the heading resource_id;total_stock" if ";" in cells[0] else ""
        columns = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
        raise ValueError(f"has {columns} instead of 2: resource_id,total_stock{hint}")
    text, total = cells
    try:
        resource_id = normalized_resource_id(text)
    except ValueError as error:
        raise ValueError(f"resource_id {error}") from None
    if not _WHOLE_NUMBER.fullmatch(total) or int(total) > TOTAL_STOCK_MAX:
        raise ValueError(f"total_stock must be a whole number from 0 to {TOTAL_STOCK_MAX}")
    return Line(number, resource_id, int(total))


def _cells(text: str, separator: str) -> list[str]:
    """The cells of a line. Empty cells after the second are dropped: spreadsheets add them."""
    cells = list(_quoted_cells(text, separator)) if '"' in text else text.split(separator)
    while len(cells) > len(HEADING) and not cells[-1]:
        cells.pop()
    return cells


def _quoted_cells(text: str, separator: str) -> Iterator[str]:
    """The cells of a line by RFC 4180; stricter than the csv module of Python."""
    start = 0
    while True:
        pattern = _QUOTED if text.startswith('"', start) else _UNQUOTED[separator]
        cell = pattern.match(text, start)
        if cell is None:
            raise _UnclosedError("has a quoted cell that does not end in its line")
        yield cell[0][1:-1].replace('""', '"') if cell[0].startswith('"') else cell[0]
        if cell.end() == len(text):
            return
        if text[cell.end()] != separator:
            raise ValueError("has a quote inside a cell, or text after a quoted one")
        start = cell.end() + 1


def _is_unclosed(text: str, separator: str) -> bool:
    try:
        _cells(text, separator or SEPARATORS[0])
    except _UnclosedError:
        return True
    except ValueError:
        return False
    return False
