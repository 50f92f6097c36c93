"""What a command says when it ends otherwise than well."""

import os
from typing import Any

import click


class CommandError(click.ClickException):
    """What went wrong, in one line on standard error, and the exit code."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code

    def show(self, _file: Any = None) -> None:
        """Write the line."""
        colour = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
        who = click.style("openreserve:", fg="red")
        click.echo(f"{who} {self.message}", err=True, color=colour)
