"""What people and scripts read: panels, tables, and JSON with the API's names."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Any
from unicodedata import east_asian_width
from uuid import UUID

import click

from openreserve.domain.resources import Resource

RULE = "─" * 37
MEASURED_ROWS = 100
"""Rows that are looked at for the widths of a table; those behind them are written as they come."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for scripts: one object a line."
)


def write_json(result: Any) -> None:
    """Write a result, as the API names its fields, in one line."""
    click.echo(json.dumps(_plain(result), ensure_ascii=False, separators=(",", ":")))


def panel(resource: Resource) -> str:
    """A resource, as people want to see it."""
    total, available = resource.total_stock, resource.available_stock
    share = "<1" if 0 < available * 100 < total else available * 100 // (total or 1)
    left = click.style(f"{available} / {total}", fg="green" if available else "red")
    return "\n".join(
        [
            f"Resource : {resource.resource_id}",
            RULE,
            f"Available : {left}  ({share}% remaining)",
            f"Held      : {resource.held_stock}",
            f"Committed : {resource.committed_stock}",
            f"Version   : {resource.version}",
            f"Updated   : {instant(resource.updated_at)}",
            RULE,
        ]
    )


def write_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows under headings as they come; numbers to the right. No rows: nothing."""
    coming = ([_text(cell) for cell in row] for row in rows)
    first = list(islice(coming, MEASURED_ROWS))
    if not first:
        return
    widths = [max(map(_width, column)) for column in zip(headings, *first, strict=True)]
    right = [
        all(cell.lstrip("-").isdecimal() for cell in column) for column in zip(*first, strict=True)
    ]
    click.secho(_line(headings, widths, right), bold=True)
    for row in _chained(first, coming):
        click.echo(_line(row, widths, right))


def instant(moment: datetime) -> str:
    """RFC 3339, in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _chained(first: list[list[str]], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield from first
    yield from rest


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if to_right else cell + space)
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _text(cell: Any) -> str:
    return instant(cell) if isinstance(cell, datetime) else str(cell)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
