"""The command line: `openreserve`. It talks to the API, but for verify and repair.

Exit codes: 0 all went well; 1 something was refused, or is not as it should be; 2 it could not run.
"""

import os
import sys
from typing import Any

import click

from openreserve import __version__
from openreserve.cli.lazy import Lazy

REFUSED = 1
COULD_NOT_RUN = 2
INTERRUPTED = 130

_TARGETS = {
    "stock": ("openreserve.cli.stock:stock", "Check, set, adjust, list and import stock."),
    "reservation": (
        "openreserve.cli.reservation:reservation",
        "Show, list and release reservations.",
    ),
    "events": ("openreserve.cli.events:events", "Watch what happens."),
    "health": ("openreserve.cli.health:health", "Say whether all that is needed answers."),
    "verify": ("openreserve.cli.books:verify", "Recompute all counters from the reservations."),
    "repair": ("openreserve.cli.books:repair", "Mend what verify finds."),
    "local": ("openreserve.cli.checkout:local", "Run the API on this machine, as make run does."),
    "blackfriday": (
        "openreserve.cli.checkout:blackfriday",
        "Sell 100 units to 2,000 buyers, and judge what came of it.",
    ),
    "completion": ("openreserve.cli.completion:completion", "Let a shell complete commands."),
}


def main() -> int:
    """Run a command, and return its exit code. What goes wrong is one line on standard error."""
    try:
        told: Any = commands.main(prog_name="openreserve", standalone_mode=False)
    except click.Abort:  # Ctrl-C
        return INTERRUPTED
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    return told if isinstance(told, int) else 0


@click.group(
    cls=Lazy,
    targets=_TARGETS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="openreserve", message="%(prog)s %(version)s")
@click.option(
    "--server",
    "server_url",
    metavar="URL",
    envvar="OPENRESERVE_SERVER_URL",
    show_envvar=True,
    default="http://localhost:8080",
    show_default=True,
    help="Where the API is.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=10,
    show_default=True,
    help="How long one try may take.",
)
@click.option(
    "--patience",
    "patience_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long to try again when the API is away or busy.  [default: 3, import: 60]",
)
@click.option(
    "--sigv4",
    is_flag=True,
    envvar="OPENRESERVE_SIGV4",
    show_envvar=True,
    help="Sign requests for AWS (IAM), with the credentials of the AWS tools.",
)
@click.pass_context
def commands(context: click.Context, /, **options: Any) -> None:
    """Operate OpenReserve: check, set, import and watch stock, and verify the books.

    Commands exit with 0 if all went well, 1 if something was refused or is not as it should be,
    and 2 if they could not run. OPENRESERVE_TOKEN, if it is set, is an access token that goes with
    every request.
    """
    context.obj = options
    if os.environ.get("NO_COLOR"):
        context.color = False
