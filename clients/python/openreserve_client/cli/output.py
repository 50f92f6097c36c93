"""Output for people and scripts: panels, tables, and JSON with the field names of the API."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import chain, islice
from typing import Any
from unicodedata import east_asian_width
from uuid import UUID

import click

from openreserve_client.models import Resource

RULE = "─" * 37
MEASURED_ROWS = 100
"""The first rows set the column widths of a table; the others are streamed."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line."
)


def write_json(result: Any) -> None:
    """Print a result as one line of JSON, with the field names of the API."""
    click.echo(json.dumps(_json_value(result), ensure_ascii=False, separators=(",", ":")))


def panel(resource: Resource) -> str:
    """A resource, formatted for people."""
    total, available = resource.total_stock, resource.available_stock
    percent = "<1" if 0 < available * 100 < total else available * 100 // (total or 1)
    stock = click.style(f"{available} / {total}", fg="green" if available else "red")
    return "\n".join(
        [
            f"Resource : {resource.resource_id}",
            RULE,
            f"Available : {stock}  ({percent}% remaining)",
            f"Held      : {resource.held_stock}",
            f"Committed : {resource.committed_stock}",
            f"Version   : {resource.version}",
            f"Updated   : {instant(resource.updated_at)}",
            RULE,
        ]
    )


def write_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table, streaming the rows; numbers are right-aligned. Without rows print nothing."""
    rows_as_text = ([_text(cell) for cell in row] for row in rows)
    measured = list(islice(rows_as_text, MEASURED_ROWS))
    if not measured:
        return
    widths = [max(map(_width, column)) for column in zip(headings, *measured, strict=True)]
    are_numbers = [
        all(cell.lstrip("-").isdecimal() for cell in column)
        for column in zip(*measured, strict=True)
    ]
    click.secho(_line(headings, widths, are_numbers), bold=True)
    for row in chain(measured, rows_as_text):
        click.echo(_line(row, widths, are_numbers))


def instant(moment: datetime) -> str:
    """RFC 3339, in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _line(cells: Sequence[str], widths: Sequence[int], are_numbers: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_number in zip(cells, widths, are_numbers, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if is_number else cell + space)
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """The number of terminal columns of a text."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _text(cell: Any) -> str:
    return instant(cell) if isinstance(cell, datetime) else str(cell)


def _json_value(value: Any) -> Any:
    if is_dataclass(value):
        return {
            _camel_case(field.name): _json_value(getattr(value, field.name))
            for field in fields(value)
        }
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_json_value(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
