"""Access tokens (JWT), judged by the rules of API Gateway's JWT authorizer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import jwt
from jwt.exceptions import ExpiredSignatureError, InvalidIssuerError, InvalidTokenError

from infra.local.auth.jwks import FindKey

ALGORITHMS = ("RS256", "RS384", "RS512")
"""All that API Gateway takes: RSA. So no `none`, and no HMAC with a public key as its secret."""


class NotValid(Exception):
    """The caller is nobody: there is no token, or it is not valid, and the text says why."""


Verify = Callable[[str], Coroutine[Any, Any, Mapping[str, Any]]]
"""Takes an Authorization header, and returns the claims of its token, or raises NotValid."""


def verifier(issuer: str, audiences: Sequence[str], find_key: FindKey) -> Verify:
    """Judges tokens of this issuer, for one of these audiences."""

    async def verify(header: str) -> Mapping[str, Any]:
        token = _token(header)
        if not token:
            raise NotValid("")
        key = await asyncio.to_thread(_key, token, find_key)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=issuer,
                options={"require": ["exp", "iss"], "verify_aud": False},  # below
            )
        except ExpiredSignatureError:
            raise NotValid("the token has expired") from None
        except InvalidIssuerError:
            raise NotValid("the token does not have a valid issuer") from None
        except InvalidTokenError as reason:
            raise NotValid(str(reason).lower().replace('"', "'")) from None
        if not _audiences(claims) & set(audiences):
            raise NotValid("the token does not have a valid audience")
        return claims

    return verify


def scopes_of(claims: Mapping[str, Any]) -> list[str]:
    """Of `scope`, or else of `scp`: a text with blanks between, or a list."""
    told = claims.get("scope", claims.get("scp"))
    return told.split() if isinstance(told, str) else _texts(told)


def as_text(claims: Mapping[str, Any]) -> dict[str, str]:
    """Claims as API Gateway puts them into the event: all of them are text."""
    return {name: _text(value) for name, value in claims.items()}


def _token(header: str) -> str:
    """With `Bearer` before it, or without: API Gateway takes both."""
    first, _, rest = header.strip().partition(" ")
    return rest.strip() if first.lower() == "bearer" else header.strip()


def _key(token: str, find_key: FindKey) -> jwt.PyJWK:
    if not token.isascii():
        raise NotValid("the token cannot be read")
    try:
        key_id = jwt.get_unverified_header(token).get("kid", "")
        return find_key(key_id)
    except InvalidTokenError:
        raise NotValid("the token cannot be read") from None
    except KeyError:
        raise NotValid("the token is signed with a key that is unknown") from None


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    """`client_id` counts for tokens without an `aud` alone: Cognito's."""
    return set(_texts(claims.get("aud", claims.get("client_id"))))


def _texts(told: Any) -> list[str]:
    several = told if isinstance(told, list) else [told]
    return [text for text in several if isinstance(text, str)]


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{' '.join(map(_text, value))}]"
    return str(value)
