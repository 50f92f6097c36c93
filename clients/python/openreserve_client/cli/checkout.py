"""`openreserve local` and `openreserve blackfriday`, which need a checkout of the project."""

import importlib.util
import os
import sys
from pathlib import Path

import click

from openreserve_client.cli.command_error import CommandError

ROOT = Path(__file__).parents[4]


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def local(context: click.Context) -> None:
    """Run the API on this machine, like make run. Options: openreserve local --help."""
    _exec("infra.local", context.args)


@click.command()
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
def blackfriday(parameters: tuple[str, ...]) -> None:
    """Run the load test, like make blackfriday: 2,000 buyers compete for 100 units.

    Takes the parameters of make blackfriday: USERS=500 STOCK=50 HOST=https://... and so on.

    Exit code: 0 if exactly the stock was sold, 1 if not, 2 if the test could not run.
    """
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not name or not equals:
            raise CommandError(f"usage_invalid: {parameter} is not of the form NAME=VALUE", 2)
        os.environ[name] = value
    if importlib.util.find_spec("locust") is None:
        raise CommandError(
            "packages_missing: Locust is not installed: run make blackfriday once to install it", 2
        )
    _exec("tests.load", [])


def _exec(module: str, arguments: list[str]) -> None:
    """Replace this process by a module of the checkout."""
    if not (ROOT / module.replace(".", "/") / "__main__.py").exists():
        raise CommandError(
            "checkout_missing: this command needs a checkout of the project: clone the repository"
            " and run make run",
            2,
        )
    os.chdir(ROOT)
    sys.stdout.flush()
    program = [sys.executable, "-m", module, *arguments]
    os.execv(sys.executable, program)  # noqa: S606 - this Python, without a shell
