"""All SQL: migrations (tables), routines, and the queries of each module."""

import re
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

ROUTINES = (
    "deadline",
    "views",
    "outbox",
    "reservation_events",
    "take_stock",
    "return_stock",
    "expire",
    "reclaim",
    "reserve",
    "commit",
    "release",
    "set_stock",
    "adjust_stock",
    "purge",
    "audit",
)
"""The files of `routines/` in the order of application: a file may depend on those before it."""

_NAMED = re.compile(r"^-- (\w+): (.+(?:\n--.*)*)\n((?:(?!^-- \w+: ).*\n)+)", re.MULTILINE)


@cache
def statements(name: str) -> SimpleNamespace:
    """The statements of `queries/<name>.sql` as attributes.

    A statement follows a line `-- name: comment` and ends before the next such line.
    """
    text = (files(__name__) / "queries" / f"{name}.sql").read_text()
    return SimpleNamespace(**{match[1]: match[3].strip() for match in _NAMED.finditer(text)})


@cache
def migrations() -> list[tuple[str, bytes]]:
    """The names and texts of `migrations/`, in the order of their numbers."""
    folder = (files(__name__) / "migrations").iterdir()
    return sorted((file.name, file.read_bytes()) for file in folder if file.name.endswith(".sql"))


@cache
def routines() -> list[tuple[str, bytes]]:
    """The names and texts of `routines/`, in the order of `ROUTINES`."""
    folder = files(__name__) / "routines"
    return [(f"{name}.sql", (folder / f"{name}.sql").read_bytes()) for name in ROUTINES]
