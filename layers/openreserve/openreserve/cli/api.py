"""The client as the options of the command line want it, and its errors as one line each."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from openreserve.cli.told import Told
from openreserve.client import Client, NotAnswered
from openreserve.client.answers import reason_of
from openreserve.client.signing import CannotSign, sigv4
from openreserve.errors import Fault, NotDone
from openreserve.problems import STATUSES

PATIENCE_SECONDS = 3.0


@contextmanager
def client(patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Client]:
    """A client of the API that the options name. Its errors end the command.

    Raises:
        Told: 1: the API refused; 2: it was not asked, or did not answer.
    """
    options = click.get_current_context().find_root().obj
    wanted = options["patience_seconds"]
    try:
        sign = sigv4(options["server_url"]) if options["sigv4"] else None
        with Client(
            options["server_url"],
            timeout_seconds=options["timeout_seconds"],
            patience_seconds=patience_seconds if wanted is None else wanted,
            sign=sign,
        ) as opened:
            yield opened
    except (CannotSign, ValueError) as wrong:
        raise Told(str(wrong), 2) from wrong
    except (NotDone, NotAnswered) as error:
        raise Told(line_of(error), 2 if isinstance(error, (Fault, NotAnswered)) else 1) from error


def line_of(error: NotDone | NotAnswered) -> str:
    """The code of an error, and what it says."""
    if isinstance(error, NotAnswered):
        return f"{error.code}: {error}"
    reason = reason_of(error.details)
    return f"{STATUSES[type(error)][1]}: {error}{f' ({reason})' if reason else ''}"
