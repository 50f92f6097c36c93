"""Public keys (JWKS) of an issuer of access tokens, from a file, a URL or OpenID discovery."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.exceptions import PyJWKClientError, PyJWKSetError

from infra.local.template.intrinsics import TemplateError

TIMEOUT_SECONDS = 10
"""Timeout of each request to the issuer."""

FindKey = Callable[[str], PyJWK]
"""Returns the key with this id, or raises KeyError."""


def load(issuer: str, location: str = "") -> FindKey:
    """The keys at `location`, a file or a URL. Without a location, OpenID discovery finds them.

    Raises:
        TemplateError: no keys were found. API Gateway rejects such an issuer, too.
    """
    try:
        if location and "://" not in location:
            return _from_set(PyJWKSet.from_dict(_object(Path(location).read_text())))
        return _from_url(location or _discovered(issuer))
    except (OSError, ValueError, KeyError, PyJWKClientError, PyJWKSetError) as reason:
        raise TemplateError(f"cannot load the signing keys of {issuer}: {reason}") from None


def _from_set(keys: PyJWKSet) -> FindKey:
    return lambda key_id: keys[key_id]


def _from_url(url: str) -> FindKey:
    client = PyJWKClient(url, timeout=TIMEOUT_SECONDS)
    client.get_jwk_set()  # fails at start, as with API Gateway

    def find(key_id: str) -> PyJWK:
        try:
            return client.get_signing_key(key_id)
        except PyJWKClientError:
            raise KeyError(key_id) from None

    return find


def _discovered(issuer: str) -> str:
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    if not url.startswith(("http://", "https://")):
        raise URLError("the issuer is not an HTTP URL")
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - just checked
        return str(_object(response.read())["jwks_uri"])


def _object(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - handled like invalid JSON
    return document
