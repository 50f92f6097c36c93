"""AWS's signature (SigV4) of a request, made again and compared: by botocore, which signs with it.

A signature in the query string is not known here, and refused.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from infra.local.auth.credentials import Pair
from infra.local.template.intrinsics import REGION

SERVICE = "execute-api"
MOMENT = "%Y%m%dT%H%M%SZ"
SKEW_MAX = timedelta(minutes=5)
"""How far a clock may be off. AWS allows the same."""

_AUTHORIZATION = re.compile(
    rf"AWS4-HMAC-SHA256 Credential=(?P<id>[^/\s,]+)/(?P<day>\d{{8}})/{REGION}/{SERVICE}/"
    r"aws4_request,\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class _AsSigned(SigV4Auth):
    """Signs the headers that the request names, where botocore would choose for itself."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers


def signer(request: web.Request, body: bytes, pairs: Mapping[str, Pair]) -> Pair | None:
    """The key pair that a request was signed with; None, if it was not, or is not the same now."""
    told = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    pair = pairs.get(told["id"]) if told else None
    if told is None or pair is None or not _is_recent(request, told["day"]):
        return None
    names = told["headers"].split(";")
    if not {"host", "x-amz-date"} <= set(names) or not _tells_its_body(request, body):
        return None
    try:
        expected = _signature(request, body, names, pair)
    except ValueError:  # botocore cannot make a URL of the host
        return None
    return pair if hmac.compare_digest(expected, told["signature"]) else None


def _is_recent(request: web.Request, day: str) -> bool:
    moment = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return moment.startswith(day) and abs(datetime.now(UTC) - signed_at) <= SKEW_MAX


def _tells_its_body(request: web.Request, body: bytes) -> bool:
    """A hash that came with the request is the one that was signed: it has to be the body's."""
    told = request.headers.get("x-amz-content-sha256")
    return told is None or told == hashlib.sha256(body).hexdigest()


def _signature(request: web.Request, body: bytes, names: list[str], pair: Pair) -> str:
    again = AWSRequest(
        method=request.method, url=f"http://{request.host}{request.rel_url.raw_path_qs}", data=body
    )
    for name in names:
        for value in request.headers.getall(name, []):
            again.headers.add_header(name, value)
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = _AsSigned(Credentials(pair.access_key_id, pair.secret_access_key), SERVICE, REGION)
    canonical = auth.canonical_request(again)
    signature: str = auth.signature(auth.string_to_sign(again, canonical), again)
    return signature
