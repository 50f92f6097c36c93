"""Smoke test of a stage: commits one reservation, releases another, and checks the counters.

    python -m infra.deploy.smoke http://localhost:8080

It leaves one more unit of the resource `smoke-test` committed and changes nothing else. If the
stage requires access tokens, set OPENRESERVE_TOKEN to that of an operator that may also reserve.
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
"""A new stage has cold functions, and its DNS name takes time to propagate."""


class SmokeTestError(Exception):
    """An answer of the stage is wrong. The text names it in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Test the stage. 0: every answer is right; 1: one is not, and standard error names it."""
    options = _options(arguments)
    try:
        sign = _sign(options)
        with Client(options.url, patience_seconds=options.patience, sign=sign) as client:
            smoke_test(client)
    except (SmokeTestError, CannotSign, NotAnswered, OpenReserveError, ValueError) as error:
        print(f"✗ The smoke test failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def smoke_test(client: Client) -> None:
    """Call health, stock, reserve and its repeat, commit, release and the reads, in this order.

    Raises:
        SmokeTestError: an answer is wrong.
    """
    health = client.health()
    _expect("health", health.status, "ok", f"postgres {health.postgres}, redis {health.redis}")
    before = _set_stock(client)
    committed = client.hold(RESOURCE, ttl_seconds=60)
    again = client.hold(RESOURCE, ttl_seconds=60, key=committed.key)
    _expect("the repeat of a reserve", again.token, committed.token)
    _expect("commit", committed.commit().status, "COMMITTED")
    released = client.hold(RESOURCE, ttl_seconds=60)
    _expect("release", released.release().status, "RELEASED")
    for hold, status in ((committed, "COMMITTED"), (released, "RELEASED")):
        _expect("the reservation", client.read_reservation(hold.token).status, status)
    after = client.read_resource(RESOURCE)
    _expect("available stock after the test", after.available_stock, UNITS - 1)
    _expect("committed stock after the test", after.committed_stock, before.committed_stock + 1)


def _sign(options: argparse.Namespace) -> Sign | None:
    """OPENRESERVE_TOKEN takes precedence over SigV4."""
    token = os.environ.get("OPENRESERVE_TOKEN")
    if token:
        return lambda _method, _url, headers, _body: {**headers, "authorization": f"Bearer {token}"}
    return sigv4(options.url, options.region) if options.sigv4 else None


def _set_stock(client: Client) -> Resource:
    """Make exactly the units available that the test needs, regardless of earlier runs."""
    try:
        resource = client.read_resource(RESOURCE)
        in_use = resource.total_stock - resource.available_stock
    except ResourceNotFound:
        in_use = 0
    updated = client.set_stock(RESOURCE, in_use + UNITS)
    _expect("available stock", updated.available_stock, UNITS)
    return updated


def _expect(name: str, actual: object, expected: object, details: str = "") -> None:
    if actual != expected:
        raise SmokeTestError(f"{name} is {actual}, expected {expected}. {details}".rstrip(". "))
    print(f"✓ {name}: {actual}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy.smoke", description=__doc__)
    parser.add_argument("url", help="URL of the API, without /api/v1")
    parser.add_argument(
        "--sigv4", action="store_true", help="sign the requests, for an API with IAM authorization"
    )
    parser.add_argument("--region", help="region to sign for, if the URL does not contain it")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        help="seconds to retry (%(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
