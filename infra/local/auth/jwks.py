"""The public keys of an issuer of access tokens: from a file, or from where the issuer has them."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.exceptions import PyJWKClientError, PyJWKSetError

from infra.local.template.intrinsics import TemplateError

SECONDS_MAX = 10
"""How long an issuer may take to tell its keys."""

FindKey = Callable[[str], PyJWK]
"""The key of an id. KeyError: there is none."""


def found(issuer: str, where: str = "") -> FindKey:
    """The keys at `where`, a file or a URL; without that, where the issuer says that they are.

    Raises:
        TemplateError: there are none. API Gateway does not take such an issuer, either.
    """
    try:
        if where and "://" not in where:
            return _of_set(PyJWKSet.from_dict(_object(Path(where).read_text())))
        return _of_url(where or _discovered(issuer))
    except (OSError, ValueError, KeyError, PyJWKClientError, PyJWKSetError) as reason:
        raise TemplateError(f"there are no keys of {issuer}: {reason}") from None


def _of_set(keys: PyJWKSet) -> FindKey:
    return lambda key_id: keys[key_id]


def _of_url(url: str) -> FindKey:
    client = PyJWKClient(url, timeout=SECONDS_MAX)
    client.get_jwk_set()  # now, as API Gateway does

    def find(key_id: str) -> PyJWK:
        try:
            return client.get_signing_key(key_id)
        except PyJWKClientError:
            raise KeyError(key_id) from None

    return find


def _discovered(issuer: str) -> str:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    if not url.startswith(("http://", "https://")):
        raise URLError("it is no URL")
    with urllib.request.urlopen(url, timeout=SECONDS_MAX) as answer:  # noqa: S310 - just checked
        return str(_object(answer.read())["jwks_uri"])


def _object(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as json says of what is no JSON
    return document
