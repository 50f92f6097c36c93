"""Commands that are imported when they are called: a start costs what its command needs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands come as `name: ("module:attribute", what it does in one line)`."""

    def __init__(self, *, targets: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._targets = targets

    def list_commands(self, _context: click.Context) -> list[str]:
        """Their names, in the order in which people read them."""
        return list(self._targets)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command, imported; None, if there is none of the name."""
        if name not in self._targets:
            return None
        module, _, attribute = self._targets[name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in self._targets.items()])
