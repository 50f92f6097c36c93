"""AWS's signature (SigV4), for an API that asks for IAM. Needs botocore: `openreserve[sigv4]`."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from openreserve.client.transport import Sign

SERVICE = "execute-api"
_API_GATEWAY = re.compile(r".*\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


class CannotSign(Exception):
    """Nothing was sent: what is needed to sign it is missing."""


def sigv4(server_url: str, region: str | None = None) -> Sign:
    """Signs each try anew, with the credentials that the AWS tools would use.

    Raises:
        CannotSign: botocore, the region or the credentials are missing.
    """
    try:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - it is large, and few need it
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415
    except ImportError:
        raise CannotSign("botocore is missing: pip install 'openreserve[sigv4]'") from None
    region = region or _region(server_url)
    credentials = get_session().get_credentials()
    if credentials is None:
        raise CannotSign("there are no AWS credentials")

    def sign(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, str]:
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(credentials.get_frozen_credentials(), SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _region(server_url: str) -> str:
    found = _API_GATEWAY.fullmatch(urlsplit(server_url).hostname or "")
    region = (
        found[1] if found else os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION"))
    )
    if not region:
        raise CannotSign("the region is not known: set AWS_REGION")
    return region
