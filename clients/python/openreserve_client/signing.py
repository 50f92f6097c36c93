"""Authentication of requests: access tokens (JWT), or AWS Signature Version 4.

SigV4 needs botocore: pip install 'openreserve-client[sigv4]'.
"""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from openreserve_client.transport import Sign

SERVICE = "execute-api"
_API_GATEWAY = re.compile(r".*\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


class CannotSign(Exception):
    """The request cannot be signed and was not sent."""


def bearer(token: str) -> Sign:
    """Send an access token with every request, for an API with the authorizer JWT.

    Raises:
        CannotSign: the token is empty, or has characters that a header cannot have.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CannotSign("the access token is invalid")

    def sign(
        _method: str, _url: str, headers: Mapping[str, str], _body: bytes | None
    ) -> Mapping[str, str]:
        return {**headers, "authorization": f"Bearer {token}"}

    return sign


def sigv4(server_url: str, region: str | None = None) -> Sign:
    """Sign every request, for an API with the authorizer IAM.

    Uses the default credential chain of the AWS SDK. Each retry is signed again. `region`: by
    default from the URL, AWS_REGION or the AWS profile.

    Raises:
        CannotSign: botocore, the region or the credentials are missing.
    """
    try:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - botocore is slow to import
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415
    except ImportError:
        raise CannotSign(
            "botocore is not installed: pip install 'openreserve-client[sigv4]'"
        ) from None
    session = get_session()
    try:
        region = region or _region(server_url) or session.get_config_variable("region")
        credentials = session.get_credentials()
    except BotoCoreError as error:  # such as an unknown profile
        raise CannotSign(str(error)) from None
    if not region:
        raise CannotSign("no AWS region: set AWS_REGION")
    if credentials is None:
        raise CannotSign("no AWS credentials found")

    def sign(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, str]:
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(credentials.get_frozen_credentials(), SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _region(server_url: str) -> str | None:
    """The region in an API Gateway URL; for a custom domain, that of AWS_REGION."""
    match = _API_GATEWAY.fullmatch(urlsplit(server_url).hostname or "")
    return match[1] if match else os.environ.get("AWS_REGION")
