"""The smoke test of a stage: one reservation of each fate through the API, and the numbers after.

    python -m infra.deploy.smoke http://localhost:8080

It leaves one more unit of the resource `smoke-test` committed, and touches nothing else. For a
stage that asks for access tokens, OPENRESERVE_TOKEN is one of an operator who may reserve, too.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from openreserve_client import Client, NotAnswered, OpenReserveError, Resource
from openreserve_client.errors import ResourceNotFound
from openreserve_client.signing import CannotSign, sigv4
from openreserve_client.transport import Sign

RESOURCE = "smoke-test"
UNITS = 2
PATIENCE_SECONDS = 60
"""A stage that was just made has cold functions, and a DNS name that not everybody knows yet."""


class Broken(Exception):
    """The stage answers, but not as it should: the text says what, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the stage. 0: all is as it should be; 1: not, and standard error says what."""
    options = _options(arguments)
    try:
        sign = _sign(options)
        with Client(options.url, patience_seconds=options.patience, sign=sign) as client:
            smoke_test(client)
    except (Broken, CannotSign, NotAnswered, OpenReserveError, ValueError) as reason:
        print(f"✗ The smoke test failed: {type(reason).__name__}: {reason}", file=sys.stderr)
        return 1
    return 0


def smoke_test(client: Client) -> None:
    """Try health, stock, a reserve and its repeat, commit, release and the reads, in this order.

    Raises:
        Broken: an answer is not what it should be.
    """
    health = client.health()
    _expect("health", health.status, "ok", f"postgres {health.postgres}, redis {health.redis}")
    before = _put_on_sale(client)
    committed = client.hold(RESOURCE, ttl_seconds=60)
    again = client.hold(RESOURCE, ttl_seconds=60, key=committed.key)
    _expect("the repeat of a reserve", again.token, committed.token)
    _expect("commit", committed.commit().status, "COMMITTED")
    released = client.hold(RESOURCE, ttl_seconds=60)
    _expect("release", released.release().status, "RELEASED")
    for hold, status in ((committed, "COMMITTED"), (released, "RELEASED")):
        _expect("the reservation", client.read_reservation(hold.token).status, status)
    after = client.read_resource(RESOURCE)
    _expect("what is available", after.available_stock, UNITS - 1)
    _expect("what is committed", after.committed_stock, before.committed_stock + 1)


def _sign(options: argparse.Namespace) -> Sign | None:
    """An access token of OPENRESERVE_TOKEN goes before AWS's signature."""
    token = os.environ.get("OPENRESERVE_TOKEN")
    if token:
        return lambda _method, _url, headers, _body: {**headers, "authorization": f"Bearer {token}"}
    return sigv4(options.url, options.region) if options.sigv4 else None


def _put_on_sale(client: Client) -> Resource:
    """So that exactly as many are available as the test needs, whatever earlier ones left."""
    try:
        found = client.read_resource(RESOURCE)
        taken = found.total_stock - found.available_stock
    except ResourceNotFound:
        taken = 0
    set_to = client.set_stock(RESOURCE, taken + UNITS)
    _expect("what is put on sale", set_to.available_stock, UNITS)
    return set_to


def _expect(what: str, answered: object, expected: object, details: str = "") -> None:
    if answered != expected:
        raise Broken(f"{what} is {answered}, and should be {expected}. {details}".rstrip(". "))
    print(f"✓ {what}: {answered}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy.smoke", description=__doc__)
    parser.add_argument("url", help="where the API is, without /api/v1")
    parser.add_argument("--sigv4", action="store_true", help="sign for an API that asks for IAM")
    parser.add_argument("--region", help="... in this region, if the URL does not tell it")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        help="seconds to try again (%(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
