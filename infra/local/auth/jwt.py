"""Validates access tokens (JWT) by the rules of API Gateway's JWT authorizer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import jwt
from jwt.exceptions import ExpiredSignatureError, InvalidIssuerError, InvalidTokenError

from infra.local.auth.jwks import FindKey

ALGORITHMS = ("RS256", "RS384", "RS512")
"""API Gateway accepts RSA only. This excludes `none`, and HMAC with a public key as its secret."""


class InvalidToken(Exception):
    """The token is missing (empty message) or invalid (the message says why)."""


Verify = Callable[[str], Coroutine[Any, Any, Mapping[str, Any]]]
"""Takes an Authorization header. Returns the claims of its token, or raises InvalidToken."""


def verifier(issuer: str, audiences: Sequence[str], find_key: FindKey) -> Verify:
    """A function that validates tokens of this issuer for one of these audiences."""

    async def verify(header: str) -> Mapping[str, Any]:
        token = _token(header)
        if not token:
            raise InvalidToken("")
        key = await asyncio.to_thread(_key, token, find_key)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=issuer,
                options={"require": ["exp", "iss"], "verify_aud": False},  # checked below
            )
        except ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        except InvalidIssuerError:
            raise InvalidToken("the token does not have a valid issuer") from None
        except InvalidTokenError as reason:
            raise InvalidToken(str(reason).lower().replace('"', "'")) from None
        if not _audiences(claims) & set(audiences):
            raise InvalidToken("the token does not have a valid audience")
        return claims

    return verify


def scopes_of(claims: Mapping[str, Any]) -> list[str]:
    """The scopes in `scope`, or else in `scp`: a space-separated string, or a list."""
    scopes = claims.get("scope", claims.get("scp"))
    return scopes.split() if isinstance(scopes, str) else _strings(scopes)


def as_text(claims: Mapping[str, Any]) -> dict[str, str]:
    """The claims as API Gateway puts them into the event: all as strings."""
    return {name: _text(value) for name, value in claims.items()}


def _token(header: str) -> str:
    """The token of the header. API Gateway accepts it with and without `Bearer`."""
    first, _, rest = header.strip().partition(" ")
    return rest.strip() if first.lower() == "bearer" else header.strip()


def _key(token: str, find_key: FindKey) -> jwt.PyJWK:
    if not token.isascii():
        raise InvalidToken("the token cannot be read")
    try:
        key_id = jwt.get_unverified_header(token).get("kid", "")
        return find_key(key_id)
    except InvalidTokenError:
        raise InvalidToken("the token cannot be read") from None
    except KeyError:
        raise InvalidToken("the token is signed with an unknown key") from None


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    """`aud`; only for tokens without one, such as Cognito's, `client_id`."""
    return set(_strings(claims.get("aud", claims.get("client_id"))))


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{' '.join(map(_text, value))}]"
    return str(value)
