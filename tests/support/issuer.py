"""An issuer of access tokens for tests, including invalid tokens."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://id.example/shop"
AUDIENCES = "shop,office"
LATER_SECONDS = 4 * 3_600
"""Longer than a test run: tokens are created while pytest collects the tests."""


@cache
def key_pair(_name: str) -> RSAPrivateKey:
    return generate_private_key(public_exponent=65_537, key_size=2_048)


@dataclass(frozen=True)
class Issuer:
    key_id: str = "key-1"
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def jwks(self) -> str:
        """The published JWKS."""
        public = RSAAlgorithm.to_jwk(key_pair(self.key_id).public_key(), as_dict=True)
        return json.dumps({"keys": [public | {"kid": self.key_id, "use": "sig", "alg": "RS256"}]})

    def token(self, scope: str | None = "", *, signed_by: str = "", **claims: Any) -> str:
        """A token that is valid for longer than the test run, unless `claims` has another `exp`.

        A claim with the value None is omitted. `signed_by`: a key other than the one in `kid`.
        """
        all_claims = self._claims(scope, claims)
        key = key_pair(signed_by or self.key_id)
        return jwt.encode(all_claims, key, algorithm="RS256", headers={"kid": self.key_id})

    def unsigned_token(self, scope: str) -> str:
        """A token without a signature: `"alg": "none"`."""
        headers = {"kid": self.key_id}
        return jwt.encode(self._claims(scope, {}), "", algorithm="none", headers=headers)

    def confused_token(self, scope: str) -> str:
        """A token with an HMAC by the public key. Built manually, since PyJWT refuses to."""
        public = key_pair(self.key_id).public_key()
        secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        parts = ({"alg": "HS256", "typ": "JWT", "kid": self.key_id}, self._claims(scope, {}))
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    def _claims(self, scope: str | None, claims: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        defaults = {
            "iss": ISSUER,
            "aud": "shop",
            "sub": "a-shop",
            "iat": now,
            "exp": now + LATER_SECONDS,
        }
        return {
            name: value
            for name, value in (defaults | {"scope": scope} | self.claims | claims).items()
            if value is not None
        }


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
