"""A client for the API under load, with authorization by bearer token or SigV4.

botocore is imported only for SigV4.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from openreserve_client import signing
from openreserve_client.transport import Sign
from tests.load.parameters import CannotRun
from tests.load.verdict import Stock

Authorize = Callable[[str, str, bytes], Mapping[str, str]]
"""Takes method, URL and body. Returns the authorization headers."""

WARM_UP_THREADS = 64
WARM_UP_CALLS = 512


@dataclass(frozen=True, slots=True)
class Stage:
    """A running API."""

    host: str

    def check(self) -> None:
        """Check that the API and its Postgres are healthy. Raises CannotRun."""
        status, view = self._call("GET", "health")
        if status != 200:
            raise CannotRun(f"{self.host} is not healthy: {status} {json.dumps(view)}")

    def create(self, resource_id: str, total_stock: int) -> None:
        """Create a resource. CannotRun: it exists, and may be production stock."""
        status, _ = self._call("GET", f"resources/{quote(resource_id, safe='')}")
        if status != 404:
            raise CannotRun(
                f"{resource_id} already exists at {self.host} ({status}), and was not changed; set"
                " another RESOURCE, or none"
            )
        self.set_total(resource_id, total_stock)

    def set_total(self, resource_id: str, total_stock: int) -> None:
        body = {"resourceId": resource_id, "totalStock": total_stock}
        status, view = self._call("POST", "resources", body)
        if status not in (200, 201):
            raise CannotRun(f"Could not set {resource_id} to {total_stock}: {status} {view}")

    def warm_up(self, resource_id: str) -> None:
        """Start all environments of reserve, by more concurrent calls than environments."""
        self.set_total(resource_id, WARM_UP_CALLS)
        body = {"resourceId": resource_id, "quantity": 1}

        def reserve(_: int) -> None:
            self._call("POST", "reserve", body, {"Idempotency-Key": uuid4().hex})

        with ThreadPoolExecutor(WARM_UP_THREADS) as pool:
            list(pool.map(reserve, range(WARM_UP_CALLS)))

    def stock(self, resource_id: str) -> Stock:
        status, view = self._call("GET", f"resources/{quote(resource_id, safe='')}")
        if status != 200:
            raise CannotRun(f"Could not read {resource_id}: {status} {view}")
        return Stock.of(view)

    def _call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        content = b"" if body is None else json.dumps(body).encode()
        url = f"{self.host}/api/v1/{path}"
        request = urllib.request.Request(  # noqa: S310 - parameters.py has checked the scheme
            url,
            method=method,
            data=content or None,
            headers={
                "Content-Type": "application/json",
                **(headers or {}),
                **authority()(method, url, content),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, _document(answer.read())
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, _document(answer.read())
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise CannotRun(f"{self.host} is unreachable: {reason}") from None


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


@cache
def authority() -> Authorize:
    """Signs calls as AUTHORIZATION says: bearer (OPENRESERVE_TOKEN), sigv4, or empty for none."""
    kind = os.environ.get("AUTHORIZATION", "")
    if kind == "":
        return lambda _method, _url, _body: {}
    if kind == "bearer":
        return _bearer(os.environ.get("OPENRESERVE_TOKEN", ""))
    if kind == "sigv4":
        return _sigv4()
    raise CannotRun(f"AUTHORIZATION is {kind}, and must be bearer, sigv4 or empty")


def _bearer(token: str) -> Authorize:
    if not token:
        raise CannotRun("AUTHORIZATION is bearer, and OPENRESERVE_TOKEN is empty")
    return _authorize(signing.bearer(token))


def _sigv4() -> Authorize:
    """One signer per address: the address of an API Gateway contains the region."""
    sign_at = cache(signing.sigv4)

    def authorize(method: str, url: str, body: bytes) -> Mapping[str, str]:
        try:
            sign = sign_at(url.partition("/api/v1/")[0])
        except signing.CannotSign as reason:
            raise CannotRun(f"AUTHORIZATION is sigv4, and {reason}") from None
        return sign(method, url, {}, body)

    return authorize


def _authorize(sign: Sign) -> Authorize:
    return lambda method, url, body: sign(method, url, {}, body)
