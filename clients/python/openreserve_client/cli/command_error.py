"""The error that ends a command."""

import os
from typing import Any

import click


class CommandError(click.ClickException):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code

    def show(self, _file: Any = None) -> None:
        """Print the line."""
        colour = False if os.environ.get("NO_COLOR") else None  # None: only on a terminal
        program = click.style("openreserve:", fg="red")
        click.echo(f"{program} {self.message}", err=True, color=colour)
