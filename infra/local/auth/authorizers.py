"""Authorizes requests as API Gateway's JWT and IAM authorizers do.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-access-control-iam.html
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from infra.local.auth import credentials, jwt, sigv4
from infra.local.auth import jwks as auth_jwks
from infra.local.auth.access import Access
from infra.local.template.intrinsics import TemplateError

Authorizer = Callable[[web.Request, str, bytes], Awaitable[Mapping[str, Any]]]
"""Takes a request, its route key and its body. Returns `requestContext.authorizer`, or raises
NotAuthorized."""


class NotAuthorized(Exception):
    """The request is rejected before it reaches a function: 401 unauthenticated, 403 forbidden."""

    def __init__(self, status: int, challenge: str = "") -> None:
        super().__init__(status, challenge)
        self.status = status
        self.challenge = challenge
        """The value of the `www-authenticate` header."""


async def allow_all(_request: web.Request, _route: str, _body: bytes) -> Mapping[str, Any]:
    """Accepts unauthenticated requests."""
    return {}


def jwt_authorizer(access: Access, issuer: str, audience: str, jwks: str = "") -> Authorizer:
    """Requires an access token of the issuer, for one of the audiences, with a scope of the route.

    `jwks` is the file or URL of the issuer's keys. Without it, OpenID discovery finds them.

    Raises:
        TemplateError: the issuer, the audience or the keys are missing.
    """
    if not issuer or not audience:
        raise TemplateError("Authorizer=JWT needs JwtIssuer and JwtAudience")
    verify = jwt.verifier(issuer, audience.split(","), auth_jwks.load(issuer, jwks))

    async def authorize(request: web.Request, route: str, _body: bytes) -> Mapping[str, Any]:
        if route in access.open_routes:
            return {}
        try:
            claims = await verify(request.headers.get("authorization", ""))
        except jwt.InvalidToken as reason:
            raise NotAuthorized(401, _challenge("", "invalid_token", str(reason))) from None
        accepted_scopes = access.scopes[route]
        scopes = [scope for scope in jwt.scopes_of(claims) if scope in accepted_scopes]
        if not scopes:
            description = "the token has no scope that the route accepts"
            raise NotAuthorized(
                403, _challenge(" ".join(accepted_scopes), "insufficient_scope", description)
            )
        return {"jwt": {"claims": jwt.as_text(claims), "scopes": scopes}}

    return authorize


def iam_authorizer(access: Access, file: Path) -> Authorizer:
    """Requires a SigV4 signature by an access key in the file whose policy allows the call.

    Raises:
        TemplateError: the file has no access keys, or one of an unknown policy.
    """
    keys = credentials.read(file, access.policies)

    async def authorize(request: web.Request, route: str, body: bytes) -> Mapping[str, Any]:
        if route in access.open_routes:
            return {}
        key = sigv4.signer(request, body, keys)
        if key is None or not access.allows(key.policy, request.method, request.path):
            raise NotAuthorized(403)
        return {"iam": key.identity}

    return authorize


def _challenge(scope: str, error: str, description: str) -> str:
    if not description:
        return "Bearer"
    return f'Bearer scope="{scope}" error="{error}" error_description="{description}"'
