"""The command line of `python -m infra.local`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def parse(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """The options, with `state` defaulting to a folder per port."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=description)
    parser.add_argument("--host", default="localhost", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--state",
        type=Path,
        help="folder for data that survives a restart (.openreserve/PORT)",
    )
    parser.add_argument(
        "--environments",
        type=int,
        default=4 * (os.cpu_count() or 1),
        metavar="N",
        help="maximum number of execution environments per function (%(default)s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print only the log and metric lines of the functions, unchanged",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="override a parameter of template.yaml, for example ReservationEvents=1",
    )
    parser.add_argument(
        "--jwks",
        default="",
        metavar="FILE|URL",
        help="with Authorizer=JWT: the signing keys of JwtIssuer (default: OpenID discovery)",
    )
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="with Authorizer=IAM: the access keys of callers (default: generated in --state)",
    )
    parser.add_argument(
        "--load-test",
        default="tests.load",
        metavar="MODULE",
        help="module that the dashboard runs as Black Friday (%(default)s)",
    )
    options = parser.parse_args(arguments)
    options.state = options.state or ROOT / ".openreserve" / str(options.port)
    return options


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    return name, value
