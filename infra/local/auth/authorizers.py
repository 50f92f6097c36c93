"""Lets callers through, or not, as API Gateway's own authorizers do: access tokens, or SigV4.

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

Admit = Callable[[web.Request, str, bytes], Awaitable[Mapping[str, Any]]]
"""Takes a request, its route and its body; returns `requestContext.authorizer`, or raises Refused.
"""


class Refused(Exception):
    """The request reached no function: the caller is unknown (401), or may not do this (403)."""

    def __init__(self, status: int, challenge: str = "") -> None:
        super().__init__(status, challenge)
        self.status = status
        self.challenge = challenge
        """What `www-authenticate` says."""


async def everybody(_request: web.Request, _route: str, _body: bytes) -> Mapping[str, Any]:
    """Lets all requests through."""
    return {}


def by_token(access: Access, issuer: str, audience: str, jwks: str = "") -> Admit:
    """Asks for an access token of the issuer, for one of the audiences, with a route's scope.

    `jwks` is where the issuer's keys are: a file or a URL; else its discovery document tells.

    Raises:
        TemplateError: there is no issuer, no audience, or there are no keys.
    """
    if not issuer or not audience:
        raise TemplateError("Authorizer=JWT needs JwtIssuer and JwtAudience")
    verify = jwt.verifier(issuer, audience.split(","), auth_jwks.found(issuer, jwks))

    async def admit(request: web.Request, route: str, _body: bytes) -> Mapping[str, Any]:
        if route in access.open_routes:
            return {}
        try:
            claims = await verify(request.headers.get("authorization", ""))
        except jwt.NotValid as reason:
            raise Refused(401, _challenge("", "invalid_token", str(reason))) from None
        wanted = access.scopes[route]
        scopes = [scope for scope in jwt.scopes_of(claims) if scope in wanted]
        if not scopes:
            missing = "the token does not have a scope that the route asks for"
            raise Refused(403, _challenge(" ".join(wanted), "insufficient_scope", missing))
        return {"jwt": {"claims": jwt.as_text(claims), "scopes": scopes}}

    return admit


def by_signature(access: Access, file: Path) -> Admit:
    """Asks for AWS's signature with one of the key pairs in the file, whose policy allows the call.

    Raises:
        TemplateError: the file has no key pairs, or those of policies that are unknown.
    """
    pairs = credentials.read(file, access.policies)

    async def admit(request: web.Request, route: str, body: bytes) -> Mapping[str, Any]:
        if route in access.open_routes:
            return {}
        pair = sigv4.signer(request, body, pairs)
        if pair is None or not access.allows(pair.policy, request.method, request.path):
            raise Refused(403)
        return {"iam": pair.identity}

    return admit


def _challenge(scope: str, error: str, description: str) -> str:
    if not description:
        return "Bearer"
    return f'Bearer scope="{scope}" error="{error}" error_description="{description}"'
