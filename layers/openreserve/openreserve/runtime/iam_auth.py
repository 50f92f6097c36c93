"""IAM authentication tokens for RDS Proxy and ElastiCache: presigned URLs (SigV4).

Signed without the AWS SDK, which would double a cold start. Tokens are not cached: signing costs
less than the TLS handshake, and a cached token could outlive its 15 minutes, a rotation of the
credentials, or a snapshot.
"""

import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

EXPIRES_SECONDS = 900
CREDENTIALS_TIMEOUT_SECONDS = 1
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_BODY_SHA256 = hashlib.sha256(b"").hexdigest()


class CannotSign(Exception):
    """No token was created: the credentials or the region of this environment are missing."""


@dataclass(frozen=True, slots=True)
class Signer:
    """The credentials and the region of a signature."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str


def database_token(host: str, port: int, user: str) -> str:
    """A password for the user on RDS Proxy or RDS, valid for 15 minutes.

    Raises:
        CannotSign: the credentials are missing.
    """
    action = {"Action": "connect", "DBUser": user}
    return presigned(signer(), time.time(), "rds-db", f"{host}:{port}", action)


def cache_token(cache_name: str, user: str, resource_type: str = "") -> str:
    """A password for the user on ElastiCache, valid for 15 minutes.

    Raises:
        CannotSign: the credentials are missing.
    """
    action = {"Action": "connect", "User": user}
    if resource_type:
        action["ResourceType"] = resource_type
    return presigned(signer(), time.time(), "elasticache", cache_name.lower(), action)


def signer() -> Signer:
    """The present credentials of this function's role. Read each time, because Lambda rotates them.

    With SnapStart they are not in the environment, which the snapshot contains, but served by a
    local HTTP endpoint.

    Raises:
        CannotSign: there are none.
    """
    credentials: Mapping[str, str | None] = os.environ
    try:
        if "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ:
            credentials = _container_credentials(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        return Signer(
            access_key=credentials["AWS_ACCESS_KEY_ID"] or "",
            secret_key=credentials["AWS_SECRET_ACCESS_KEY"] or "",
            session_token=credentials.get("AWS_SESSION_TOKEN"),
            region=os.environ["AWS_REGION"],
        )
    except (KeyError, OSError, ValueError) as error:
        raise CannotSign(repr(error)) from error


def presigned(
    signer: Signer, now: float, service: str, host: str, action: Mapping[str, str]
) -> str:
    """The presigned URL of the action, without its scheme.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
    """
    date_time = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{date_time[:8]}/{signer.region}/{service}/aws4_request"
    authority = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{signer.access_key}/{scope}",
        "X-Amz-Date": date_time,
        "X-Amz-Expires": str(EXPIRES_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if signer.session_token is not None:
        authority["X-Amz-Security-Token"] = signer.session_token
    query = _query({**action, **authority})
    canonical = "\n".join(
        [
            "GET",
            "/",
            "&".join(sorted(query)),
            f"host:{host.lower()}",
            "",
            "host",
            _EMPTY_BODY_SHA256,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(
        _key(signer.secret_key, scope),
        f"{_ALGORITHM}\n{date_time}\n{scope}\n{digest}".encode(),
        hashlib.sha256,
    ).hexdigest()
    return f"{host}/?{'&'.join(query)}&X-Amz-Signature={signature}"


def _query(parameters: Mapping[str, str]) -> list[str]:
    return [f"{quote(name, '')}={quote(value, '')}" for name, value in parameters.items()]


def _key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _container_credentials(url: str) -> Mapping[str, str | None]:
    """The credentials from the container credentials endpoint, by environment variable name."""
    from http.client import HTTPConnection  # noqa: PLC0415 - only SnapStart needs it

    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=CREDENTIALS_TIMEOUT_SECONDS)
    try:
        authorization = {"Authorization": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
        connection.request("GET", parts.path, headers=authorization)
        response = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {
        "AWS_ACCESS_KEY_ID": response["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": response["SecretAccessKey"],
        "AWS_SESSION_TOKEN": response.get("Token"),
    }
