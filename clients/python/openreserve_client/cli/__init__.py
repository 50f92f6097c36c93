"""The command line, `openreserve`. This module runs without the packages of the cli extra."""

import signal
import sys

COULD_NOT_RUN = 2
"""The exit code of a command that could not run."""


def main() -> int:
    """Run a command and return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Shells without job control ignore SIGINT in background jobs; make it work again.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from openreserve_client.cli.program import run  # noqa: PLC0415 - needs click

        return run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "openreserve_client"):
            raise
        reason = f"{error.name} is not installed: pip install 'openreserve-client[cli]'"
        sys.stderr.write(f"openreserve: packages_missing: {reason}\n")
        return COULD_NOT_RUN
