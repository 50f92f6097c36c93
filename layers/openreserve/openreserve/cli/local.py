"""`openreserve local`: the API on this machine, from a checkout of the project."""

import os
import sys
from pathlib import Path

import click

from openreserve.cli.told import Told

ROOT = Path(__file__).parents[4]


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def local(context: click.Context) -> None:
    """Run the API on this machine, as make run does: --port, --json, --help and so on."""
    if not (ROOT / "infra" / "local" / "__main__.py").exists():
        raise Told("local needs a checkout of the project: clone it, and make run there", 2)
    os.chdir(ROOT)
    program = [sys.executable, "-m", "infra.local", *context.args]
    sys.stdout.flush()
    os.execv(sys.executable, program)  # noqa: S606 - this very Python, and no shell
