"""Verifies AWS Signature Version 4: recomputes the signature with botocore and compares it.

Signatures in the query string (presigned URLs) are not supported and are rejected.
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

from infra.local.auth.credentials import AccessKey
from infra.local.template.intrinsics import REGION

SERVICE = "execute-api"
TIMESTAMP_FORMAT = "%Y%m%dT%H%M%SZ"
SKEW_MAX = timedelta(minutes=5)
"""Maximum clock skew, as on AWS."""

_AUTHORIZATION = re.compile(
    rf"AWS4-HMAC-SHA256 Credential=(?P<id>[^/\s,]+)/(?P<day>\d{{8}})/{REGION}/{SERVICE}/"
    r"aws4_request,\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class _SignedHeadersAuth(SigV4Auth):
    """Signs exactly the headers of the request. botocore alone would select them itself."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers


def signer(request: web.Request, body: bytes, keys: Mapping[str, AccessKey]) -> AccessKey | None:
    """The access key that signed the request. None: there is no valid signature."""
    authorization = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    key = keys.get(authorization["id"]) if authorization else None
    if authorization is None or key is None or not _is_recent(request, authorization["day"]):
        return None
    names = authorization["headers"].split(";")
    if not {"host", "x-amz-date"} <= set(names) or not _has_valid_body_hash(request, body):
        return None
    try:
        expected = _signature(request, body, names, key)
    except ValueError:  # the Host header is not a valid host
        return None
    return key if hmac.compare_digest(expected, authorization["signature"]) else None


def _is_recent(request: web.Request, day: str) -> bool:
    timestamp = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(timestamp, TIMESTAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return timestamp.startswith(day) and abs(datetime.now(UTC) - signed_at) <= SKEW_MAX


def _has_valid_body_hash(request: web.Request, body: bytes) -> bool:
    """Whether the body matches x-amz-content-sha256, which botocore signs unchecked."""
    body_hash = request.headers.get("x-amz-content-sha256")
    return body_hash is None or body_hash == hashlib.sha256(body).hexdigest()


def _signature(request: web.Request, body: bytes, names: list[str], key: AccessKey) -> str:
    unsigned = AWSRequest(
        method=request.method, url=f"http://{request.host}{request.rel_url.raw_path_qs}", data=body
    )
    for name in names:
        for value in request.headers.getall(name, []):
            unsigned.headers.add_header(name, value)
    unsigned.context["timestamp"] = request.headers["x-amz-date"]
    auth = _SignedHeadersAuth(
        Credentials(key.access_key_id, key.secret_access_key), SERVICE, REGION
    )
    canonical = auth.canonical_request(unsigned)
    signature: str = auth.signature(auth.string_to_sign(unsigned, canonical), unsigned)
    return signature
