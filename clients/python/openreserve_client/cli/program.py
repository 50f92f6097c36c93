"""The root command, its global options and its exit codes.

Exit codes: 0 success; 1 a request was refused or a check failed; 2 the command could not run.
"""

import os
import signal
import sys
from typing import Any, NoReturn

import click

from openreserve_client import __version__
from openreserve_client.cli import COULD_NOT_RUN
from openreserve_client.cli.command_error import CommandError
from openreserve_client.cli.lazy import LazyGroup
from openreserve_client.cli.pipes import ReaderGone, reader_watched
from openreserve_client.cli.seconds import Seconds

REFUSED = 1
INTERRUPTED = 130
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(
    click.exceptions, "NoArgsIsHelpError", ()
)
"""Newer versions of click raise this to show the help."""

_PACKAGE = "openreserve_client.cli"
_TARGETS = {
    "stock": (f"{_PACKAGE}.stock:stock", "Show, set, adjust, list and import stock."),
    "reservation": (
        f"{_PACKAGE}.reservation:reservation",
        "Show, list and release reservations.",
    ),
    "events": (f"{_PACKAGE}.events:events", "Show the events of stock and reservations."),
    "health": (f"{_PACKAGE}.health:health", "Show the health of the API, Postgres and Redis."),
    "verify": (f"{_PACKAGE}.audit:verify", "Check the stock counters against the reservations."),
    "repair": (f"{_PACKAGE}.audit:repair", "Repair the counters that verify reports."),
    "local": (f"{_PACKAGE}.checkout:local", "Run the API on this machine, like make run."),
    "blackfriday": (
        f"{_PACKAGE}.checkout:blackfriday",
        "Run the load test: 2,000 buyers compete for 100 units.",
    ),
    "completion": (f"{_PACKAGE}.completion:completion", "Print a shell completion script."),
}


def run() -> int:
    """Run a command and return its exit code. Errors are one line on standard error.

    Does not return if the reader of standard output has exited.
    """
    try:
        result: Any = commands.main(prog_name="openreserve", standalone_mode=False)
    except ReaderGone:
        _exit_by_sigpipe()
    except click.Abort:  # Ctrl-C
        return INTERRUPTED
    except click.ClickException as error:
        (_usage_error(error) if isinstance(error, click.UsageError) else error).show()
        return error.exit_code
    except (OSError, UnicodeError) as error:  # a full disk, an encoding without the character
        CommandError(f"io_failed: {error}", COULD_NOT_RUN).show()
        _discard_output()
        return COULD_NOT_RUN
    return result if isinstance(result, int) else 0


def _usage_error(error: click.UsageError) -> click.ClickException:
    """The usage error in one line."""
    if isinstance(error, _NO_ARGUMENTS):
        return error
    path = error.ctx.command_path if error.ctx else "openreserve"
    message = " ".join(error.format_message().split())
    line = f"usage_invalid: {message.removesuffix('.')}. See: {path} --help"
    return CommandError(line, error.exit_code)


def _exit_by_sigpipe() -> NoReturn:
    """Exit by SIGPIPE like other Unix programs. Python ignores it by default."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(REFUSED)  # the signal is blocked


def _discard_output() -> None:
    """Discard buffered output, which Python would fail to flush again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Commands(LazyGroup):
    """Raises ReaderGone before click handles the broken pipe with its own exit code."""

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
    help="Base URL of the API.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=Seconds(min_open=True),
    default=10,
    show_default=True,
    help="Timeout of each attempt of a request.",
)
@click.option(
    "--patience",
    "patience_seconds",
    metavar="SECONDS",
    type=Seconds(),
    help="How long to retry while the API is unreachable or busy.  [default: 3, import: 60]",
)
@click.option(
    "--sigv4",
    is_flag=True,
    envvar="OPENRESERVE_SIGV4",
    show_envvar=True,
    help="Sign requests with AWS Signature Version 4, for an API with the authorizer IAM.",
)
@click.pass_context
def commands(context: click.Context, /, **options: Any) -> None:
    """Operate OpenReserve: manage stock, inspect reservations and events, verify the counters.

    To authenticate with an access token (JWT), set OPENRESERVE_TOKEN. NO_COLOR=1 disables colours.

    Exit code: 0 on success, 1 if the API refused a request or a check failed, 2 if the command
    could not run.
    """
    context.obj = options
    if os.environ.get("NO_COLOR"):
        context.color = False
