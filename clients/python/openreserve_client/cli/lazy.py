"""Command groups that import a command only when it is used, so that the program starts quickly."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of commands, given as `name: ("module:attribute", "one-line help")`."""

    def __init__(self, *, targets: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._targets = targets

    def list_commands(self, _context: click.Context) -> list[str]:
        """The names of the commands, in the order of the help."""
        return list(self._targets)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import the command; None if there is no such command."""
        if name not in self._targets:
            return None
        module, _, attribute = self._targets[name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._targets.items()])
