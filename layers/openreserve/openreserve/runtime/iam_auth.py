"""Tokens that tell RDS Proxy and ElastiCache who this function is: presigned URLs (SigV4).

Signed here, since loading the AWS SDK would double a cold start. Nothing is kept: signing costs
less than the handshake it is for, and so no token outlives its 15 minutes, a rotation of the
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
_OF_NOTHING = hashlib.sha256(b"").hexdigest()


class CannotSign(Exception):
    """No token was made: the credentials or the region of this environment are missing."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and where."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str


def database_token(host: str, port: int, user: str) -> str:
    """What RDS Proxy and Postgres on RDS take for the password of the user, for 15 minutes.

    Raises:
        CannotSign: the credentials are missing.
    """
    action = {"Action": "connect", "DBUser": user}
    return presigned(signer(), time.time(), "rds-db", f"{host}:{port}", action)


def cache_token(cache_name: str, user: str, resource_type: str = "") -> str:
    """What ElastiCache takes for the password of the user, for 15 minutes.

    Raises:
        CannotSign: the credentials are missing.
    """
    action = {"Action": "connect", "User": user}
    if resource_type:
        action["ResourceType"] = resource_type
    return presigned(signer(), time.time(), "elasticache", cache_name.lower(), action)


def signer() -> Signer:
    """The role of this function, as it is now: Lambda may have other credentials the next time.

    Where SnapStart is on, the credentials are not in the environment, where the snapshot would keep
    them, but to be asked for.

    Raises:
        CannotSign: there are none.
    """
    found: Mapping[str, str | None] = os.environ
    try:
        if "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ:
            found = _asked_for(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        return Signer(
            access_key=found["AWS_ACCESS_KEY_ID"] or "",
            secret_key=found["AWS_SECRET_ACCESS_KEY"] or "",
            session_token=found.get("AWS_SESSION_TOKEN"),
            region=os.environ["AWS_REGION"],
        )
    except (KeyError, OSError, ValueError) as missing:
        raise CannotSign(repr(missing)) from missing


def presigned(
    signer: Signer, now: float, service: str, host: str, action: Mapping[str, str]
) -> str:
    """The URL, without its scheme, that stands for the action at that time, and the signature.

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
        ["GET", "/", "&".join(sorted(query)), f"host:{host.lower()}", "", "host", _OF_NOTHING]
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


def _asked_for(url: str) -> Mapping[str, str | None]:
    """What the environment's own server of credentials says, under the names of the variables."""
    from http.client import HTTPConnection  # noqa: PLC0415 - SnapStart alone needs it

    at = urlsplit(url)
    server = HTTPConnection(at.netloc, timeout=CREDENTIALS_TIMEOUT_SECONDS)
    try:
        authorization = {"Authorization": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
        server.request("GET", at.path, headers=authorization)
        told = json.loads(server.getresponse().read())
    finally:
        server.close()
    return {
        "AWS_ACCESS_KEY_ID": told["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": told["SecretAccessKey"],
        "AWS_SESSION_TOKEN": told.get("Token"),
    }
