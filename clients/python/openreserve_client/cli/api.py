"""The client as the options of the command line want it, and its errors as one line each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from openreserve.cli.told import CommandError
from openreserve.client import Client, NotAnswered
from openreserve.client.answers import reason_of
from openreserve.client.signing import CannotSign, bearer, sigv4
from openreserve.client.transport import Sign
from openreserve.domain.errors import Fault, OpenReserveError
from openreserve.http.problems import STATUSES

PATIENCE_SECONDS = 3.0

_WITH_NOTHING = (
    "the API asks who calls: set OPENRESERVE_TOKEN to an access token, or sign with --sigv4"
)
_WITH_TOKEN = {
    401: "OPENRESERVE_TOKEN is no token of its provider and audience, or is over: get a new one",
    403: "OPENRESERVE_TOKEN lacks the scope for this: get one with it, or the API asks for --sigv4",
}
_WITH_SIGV4 = {
    401: "the API asks for an access token, not for --sigv4: set OPENRESERVE_TOKEN",
    403: "these AWS credentials lack a policy (OperatorPolicy, BuyerPolicy); or the clock is off",
}


@contextmanager
def client(patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Client]:
    """A client of the API that the options name. Its errors end the command.

    Raises:
        Told: 1: the API refused; 2: it was not asked, or did not answer.
    """
    options = click.get_current_context().find_root().obj
    wanted = options["patience_seconds"]
    try:
        sign = _sign(options["server_url"], with_sigv4=options["sigv4"])
        with Client(
            options["server_url"],
            timeout_seconds=options["timeout_seconds"],
            patience_seconds=patience_seconds if wanted is None else wanted,
            sign=sign,
        ) as opened:
            yield opened
    except UnicodeEncodeError as wrong:
        raise CommandError("usage_invalid: an argument is no text in UTF-8", 2) from wrong
    except (CannotSign, ValueError) as wrong:
        raise CommandError(f"usage_invalid: {wrong}", 2) from wrong
    except (OpenReserveError, NotAnswered) as error:
        raise CommandError(
            line_of(error), 2 if isinstance(error, (Fault, NotAnswered)) else 1
        ) from error


def line_of(error: OpenReserveError | NotAnswered) -> str:
    """The code of an error, and what it says."""
    if isinstance(error, NotAnswered):
        return f"{error.code}: {error}{_advice(error.status)}"
    reason = reason_of(error.details)
    return f"{STATUSES[type(error)][1]}: {error}{f' ({reason})' if reason else ''}"


def _sign(server_url: str, *, with_sigv4: bool) -> Sign | None:
    token = os.environ.get("OPENRESERVE_TOKEN", "")
    if with_sigv4 and token:
        raise CannotSign("--sigv4 and OPENRESERVE_TOKEN exclude each other")
    if token:
        return bearer(token)
    return sigv4(server_url) if with_sigv4 else None


def _advice(status: int | None) -> str:
    """What to do about a gateway that refuses the caller; empty for all else."""
    if status not in _WITH_TOKEN:
        return ""
    if click.get_current_context().find_root().obj["sigv4"]:
        return f"; {_WITH_SIGV4[status]}"
    return f"; {_WITH_TOKEN[status] if os.environ.get('OPENRESERVE_TOKEN') else _WITH_NOTHING}"
