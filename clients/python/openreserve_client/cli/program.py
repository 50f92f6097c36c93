"""The commands. They talk to the API, but for verify and repair.

Exit codes: 0 all went well; 1 something was refused, or is not as it should be; 2 it could not run.
"""

import os
import signal
import sys
from typing import Any, NoReturn

import click

from openreserve import __version__
from openreserve.cli import COULD_NOT_RUN
from openreserve.cli.lazy import LazyGroup
from openreserve.cli.pipes import ReaderGone, reader_watched
from openreserve.cli.seconds import Seconds
from openreserve.cli.told import CommandError

REFUSED = 1
INTERRUPTED = 130
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(
    click.exceptions, "NoArgsIsHelpError", ()
)
"""What newer versions of click raise to show the help."""

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


def run() -> int:
    """Run a command, and return its exit code. What goes wrong is one line on standard error.

    Does not return when the reader of the output has gone.
    """
    try:
        result: Any = commands.main(prog_name="openreserve", standalone_mode=False)
    except ReaderGone:
        _die_of_a_closed_pipe()
    except click.Abort:  # Ctrl-C
        return INTERRUPTED
    except click.ClickException as error:
        (_in_one_line(error) if isinstance(error, click.UsageError) else error).show()
        return error.exit_code
    except (OSError, UnicodeError) as error:  # a full disk, an encoding without the character
        CommandError(f"io_failed: {error}", COULD_NOT_RUN).show()
        _forget_output()
        return COULD_NOT_RUN
    return result if isinstance(result, int) else 0


def _in_one_line(error: click.UsageError) -> click.ClickException:
    if isinstance(error, _NO_ARGUMENTS):
        return error
    path = error.ctx.command_path if error.ctx else "openreserve"
    message = " ".join(error.format_message().split())
    line = f"usage_invalid: {message.removesuffix('.')}. See: {path} --help"
    return CommandError(line, error.exit_code)


def _die_of_a_closed_pipe() -> NoReturn:
    """Be ended by SIGPIPE, as the programs are that do not ignore it, as Python does."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(REFUSED)  # the signal is blocked


def _forget_output() -> None:
    """Have nothing left to write at the end, which would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Commands(LazyGroup):
    """Says that the reader has gone, of which click makes an exit code of its own."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with reader_watched():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with reader_watched():
            return super().invoke(context)


@click.group(
    cls=_Commands,
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
    type=Seconds(min_open=True),
    default=10,
    show_default=True,
    help="How long one try may take.",
)
@click.option(
    "--patience",
    "patience_seconds",
    metavar="SECONDS",
    type=Seconds(),
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
