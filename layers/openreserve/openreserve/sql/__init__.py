"""The only SQL there is: named statements by file, and the schema's numbered migrations.

A statement stands under a line `-- name: why it is as it is` and ends at the next such line.
"""

import re
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

_NAMED = re.compile(r"^-- (\w+): (.+(?:\n--.*)*)\n((?:(?!^-- \w+: ).*\n)+)", re.MULTILINE)


@cache
def statements(name: str) -> SimpleNamespace:
    """The statements of `<name>.sql` as attributes, read once."""
    text = (files(__name__) / f"{name}.sql").read_text()
    return SimpleNamespace(**{found[1]: found[3].strip() for found in _NAMED.finditer(text)})


@cache
def migrations() -> list[tuple[str, bytes]]:
    """The file names and texts of the schema's migrations, in the order of their numbers."""
    schema = (files(__name__) / "schema").iterdir()
    return sorted((file.name, file.read_bytes()) for file in schema if file.name.endswith(".sql"))
