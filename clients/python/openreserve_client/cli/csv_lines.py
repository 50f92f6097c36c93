"""The lines of an import file: `resource_id,total_stock`, and `#` for comments. Pure.

The rules are in docs/import.md. A record is one line. One that goes on over further lines is
refused with all of them, so that nothing within it is taken for a record.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from openreserve.domain.resources import TOTAL_STOCK_MAX, normalized_resource_id

LINE_BYTES_MAX = 4_096
"""Far more than an id of 200 characters and a total: what is longer is not read to its end at once,
so that a file without an end of line takes no memory."""
HEADING = ["resource_id", "total_stock"]
SEPARATORS = (",", ";")

_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_BARE = {separator: re.compile(rf'[^"{separator}]*') for separator in SEPARATORS}


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


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line that was too long to be kept."""

    size: int
    quotes: int
    is_quoted: bool
    """Whether its first character is a quote."""

    def __len__(self) -> int:
        """In bytes."""
        return self.size


class _UnclosedError(ValueError):
    """A quoted cell does not end in its line."""


def raw_lines(file: IO[bytes]) -> Iterator[bytes | LongLine]:
    """The lines of a file as they come."""
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
        else:
            yield _read_to_end(line, file)


def parsed(lines: Iterable[bytes | LongLine]) -> Iterator[Line | BadLine | None]:
    """What each line says.

    None: nothing, for it is empty, a comment, the heading, or a further line of a refused record.
    """
    reader = _Reader()
    for number, raw in enumerate(lines, 1):
        try:
            yield reader.read(number, raw)
        except ValueError as wrong:
            yield BadLine(number, str(wrong))


class _Reader:
    """What one line has to know of those before it."""

    def __init__(self) -> None:
        self._separator = ""
        """Empty until the first record, which may be the heading."""
        self._is_inside = False
        """Whether a quoted cell goes on from the line before."""

    def read(self, number: int, raw: bytes | LongLine) -> Line | None:
        if self._is_inside:
            self._is_inside = _quotes(raw) % 2 == 0
            return None
        if isinstance(raw, LongLine):
            self._is_inside = raw.is_quoted and raw.quotes % 2 == 1
            raise ValueError(f"is longer than {LINE_BYTES_MAX} bytes")  # noqa: TRY004 - no type
        try:
            return self._read_text(number, _decoded(number, raw, "strict"))
        except _UnclosedError:
            self._is_inside = True
            raise
        except UnicodeDecodeError:
            self._is_inside = _is_unclosed(_decoded(number, raw, "replace"), self._separator)
            raise ValueError("is not UTF-8") from None

    def _read_text(self, number: int, text: str) -> Line | None:
        if not text.strip(" " + (self._separator or "".join(SEPARATORS))):
            return None
        if text.lstrip(" ").startswith("#"):
            return None
        if not self._separator:
            self._separator, is_heading = _separator(text)
            if is_heading:
                return None
        return _line(number, _cells(text, self._separator))


def _read_to_end(line: bytes, file: IO[bytes]) -> LongLine:
    is_quoted, size, quotes = line.startswith(b'"'), 0, 0
    while line:
        size, quotes = size + len(line), quotes + line.count(b'"')
        line = b"" if line.endswith(b"\n") else file.readline(LINE_BYTES_MAX)
    return LongLine(size, quotes, is_quoted=is_quoted)


def _quotes(raw: bytes | LongLine) -> int:
    return raw.quotes if isinstance(raw, LongLine) else raw.count(b'"')


def _decoded(number: int, raw: bytes, errors: str) -> str:
    text = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    return text.removesuffix("\n").removesuffix("\r")


def _separator(text: str) -> tuple[str, bool]:
    """The separator of a file whose first record this is, and whether that is its heading."""
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
    except ValueError as wrong:
        raise ValueError(f"resource_id {wrong}") from None
    if not _WHOLE_NUMBER.fullmatch(total) or int(total) > TOTAL_STOCK_MAX:
        raise ValueError(f"total_stock must be a whole number from 0 to {TOTAL_STOCK_MAX}")
    return Line(number, resource_id, int(total))


def _cells(text: str, separator: str) -> list[str]:
    """The cells of a line, without empty ones behind the second: spreadsheets add them."""
    cells = list(_quoted_cells(text, separator)) if '"' in text else text.split(separator)
    while len(cells) > len(HEADING) and not cells[-1]:
        cells.pop()
    return cells


def _quoted_cells(text: str, separator: str) -> Iterator[str]:
    """The cells of a line after RFC 4180, which is stricter than the library."""
    at = 0
    while True:
        cell = (_QUOTED if text.startswith('"', at) else _BARE[separator]).match(text, at)
        if cell is None:
            raise _UnclosedError("has a quoted cell that does not end in its line")
        yield cell[0][1:-1].replace('""', '"') if cell[0].startswith('"') else cell[0]
        if cell.end() == len(text):
            return
        if text[cell.end()] != separator:
            raise ValueError("has a quote inside a cell, or text behind a quoted one")
        at = cell.end() + 1


def _is_unclosed(text: str, separator: str) -> bool:
    try:
        _cells(text, separator or SEPARATORS[0])
    except _UnclosedError:
        return True
    except ValueError:
        return False
    return False
