"""`openreserve local` and `openreserve blackfriday`: programs of a checkout of the project."""

import importlib.util
import os
import sys
from pathlib import Path

import click

from openreserve.cli.told import CommandError

ROOT = Path(__file__).parents[4]


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def local(context: click.Context) -> None:
    """Run the API on this machine, as make run does: --port, --json, --help and so on."""
    _become("infra.local", context.args)


@click.command()
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
def blackfriday(parameters: tuple[str, ...]) -> None:
    """Sell 100 units to 2,000 buyers, and judge what came of it, as make blackfriday does.

    Its parameters are those of the README: USERS=500 STOCK=50 HOST=https://... and so on. Exits
    with 0 if it was exact, 1 if it was not, 2 if it could not run.
    """
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not name or not equals:
            raise CommandError(f"usage_invalid: {parameter} is not of the form NAME=VALUE", 2)
        os.environ[name] = value
    if importlib.util.find_spec("locust") is None:
        raise CommandError(
            "packages_missing: blackfriday needs Locust: make blackfriday sets it up", 2
        )
    _become("tests.load", [])


def _become(module: str, arguments: list[str]) -> None:
    if not (ROOT / module.replace(".", "/") / "__main__.py").exists():
        raise CommandError(
            "checkout_missing: this needs a checkout of the project: clone it, and make run there",
            2,
        )
    os.chdir(ROOT)
    sys.stdout.flush()
    program = [sys.executable, "-m", module, *arguments]
    os.execv(sys.executable, program)  # noqa: S606 - this very Python, and no shell
