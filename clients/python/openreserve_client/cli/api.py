"""The API client with the options of the command line; its exceptions become CommandErrors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from openreserve_client.cli.command_error import CommandError
from openreserve_client.client import Client
from openreserve_client.errors import Fault, NotAnswered, OpenReserveError
from openreserve_client.models import reason_of
from openreserve_client.signing import CannotSign, bearer, sigv4
from openreserve_client.transport import Sign

PATIENCE_SECONDS = 3.0

_ADVICE_UNAUTHENTICATED = (
    "the API requires authentication: set OPENRESERVE_TOKEN to an access token, or use --sigv4"
)
_ADVICE_TOKEN = {
    401: "OPENRESERVE_TOKEN is expired, or of another issuer or audience: get a new one",
    403: "OPENRESERVE_TOKEN lacks the scope for this; if the API has the authorizer IAM, use"
    " --sigv4",
}
_ADVICE_SIGV4 = {
    401: "the API has the authorizer JWT, not IAM: set OPENRESERVE_TOKEN instead of --sigv4",
    403: "attach OperatorPolicy or BuyerPolicy to these AWS credentials, and check the clock",
}


@contextmanager
def client(patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Client]:
    """A client with the global options of the command line.

    Raises:
        CommandError: with exit code 1 if the API refused the request, 2 for all other errors.
    """
    options = click.get_current_context().find_root().obj
    patience_option = options["patience_seconds"]
    try:
        sign = _sign(options["server_url"], with_sigv4=options["sigv4"])
        with Client(
            options["server_url"],
            timeout_seconds=options["timeout_seconds"],
            patience_seconds=patience_seconds if patience_option is None else patience_option,
            sign=sign,
        ) as api_client:
            yield api_client
    except UnicodeEncodeError as error:
        raise CommandError("usage_invalid: an argument is not valid UTF-8", 2) from error
    except (CannotSign, ValueError) as error:
        raise CommandError(f"usage_invalid: {error}", 2) from error
    except (OpenReserveError, NotAnswered) as error:
        exit_code = 2 if isinstance(error, (Fault, NotAnswered)) else 1
        raise CommandError(line_of(error), exit_code) from error


def line_of(error: OpenReserveError | NotAnswered) -> str:
    """The error in one line that begins with its code."""
    if isinstance(error, NotAnswered):
        return f"{error.code}: {error}{_advice(error.status)}"
    reason = reason_of(error.details)
    return f"{error.code}: {error}{f' ({reason})' if reason else ''}"


def _sign(server_url: str, *, with_sigv4: bool) -> Sign | None:
    token = os.environ.get("OPENRESERVE_TOKEN", "")
    if with_sigv4 and token:
        raise CannotSign("--sigv4 and OPENRESERVE_TOKEN are mutually exclusive")
    if token:
        return bearer(token)
    return sigv4(server_url) if with_sigv4 else None


def _advice(status: int | None) -> str:
    """How to fix a 401 or 403 of the gateway; empty for all other statuses."""
    if status not in _ADVICE_TOKEN:
        return ""
    if click.get_current_context().find_root().obj["sigv4"]:
        return f"; {_ADVICE_SIGV4[status]}"
    has_token = bool(os.environ.get("OPENRESERVE_TOKEN"))
    return f"; {_ADVICE_TOKEN[status] if has_token else _ADVICE_UNAUTHENTICATED}"
