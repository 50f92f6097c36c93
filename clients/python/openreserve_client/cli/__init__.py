"""The command line: `openreserve`. Here is only what also works without the packages it needs."""

import signal
import sys

COULD_NOT_RUN = 2


def main() -> int:
    """Run a command, and return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a script starts what it puts into the background: nothing could interrupt it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from openreserve.cli.program import run  # noqa: PLC0415 - see above

        return run()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("", "openreserve"):
            raise
        reason = f"{missing.name} is not installed: pip install 'openreserve[cli]'"
        sys.stderr.write(f"openreserve: packages_missing: {reason}\n")
        return COULD_NOT_RUN
