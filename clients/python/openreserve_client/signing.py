"""Says who calls: by an access token, or by AWS's signature (SigV4), which needs botocore.

Without `openreserve[sigv4]` there is no botocore.
"""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from openreserve.client.transport import Sign

SERVICE = "execute-api"
_API_GATEWAY = re.compile(r".*\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


class CannotSign(Exception):
    """Nothing was sent: what is needed to sign it is missing."""


def bearer(token: str) -> Sign:
    """Sends an access token with each try, for an API that asks for JWT.

    Raises:
        CannotSign: it is empty, or holds what no header can.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CannotSign("the access token is none")

    def sign(
        _method: str, _url: str, headers: Mapping[str, str], _body: bytes | None
    ) -> Mapping[str, str]:
        return {**headers, "authorization": f"Bearer {token}"}

    return sign


def sigv4(server_url: str, region: str | None = None) -> Sign:
    """Signs each try anew, with the credentials that the AWS tools would use.

    Raises:
        CannotSign: botocore, the region or the credentials are missing.
    """
    try:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - it is large, and few need it
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415
    except ImportError:
        raise CannotSign("botocore is missing: pip install 'openreserve[sigv4]'") from None
    session = get_session()
    try:
        region = region or _region(server_url) or session.get_config_variable("region")
        credentials = session.get_credentials()
    except BotoCoreError as wrong:  # such as a profile that is not there
        raise CannotSign(str(wrong)) from None
    if not region:
        raise CannotSign("the region is not known: set AWS_REGION")
    if credentials is None:
        raise CannotSign("there are no AWS credentials")

    def sign(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, str]:
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(credentials.get_frozen_credentials(), SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _region(server_url: str) -> str | None:
    """Of an address that API Gateway made; a domain of one's own does not tell it."""
    found = _API_GATEWAY.fullmatch(urlsplit(server_url).hostname or "")
    return found[1] if found else os.environ.get("AWS_REGION")
