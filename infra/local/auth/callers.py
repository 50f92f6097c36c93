"""Who may call the API on this machine: everybody, unless an authorizer is asked for by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.auth import access, authorizers, credentials
from infra.local.auth.authorizers import Admit
from infra.local.template.intrinsics import TemplateError


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may call, and how that is told."""

    title: str
    admit: Admit


def named(
    given: Mapping[str, str], template: Path, state: Path, jwks: str, pairs: Path | None
) -> Callers:
    """Those that the parameters given ask for. That of the template is for AWS: this is a laptop.

    Key pairs that are not given are made, and kept in the folder `state`.

    Raises:
        TemplateError: what they ask for is unknown, or incomplete.
    """
    known = access.load(template)
    match given.get("Authorizer"):
        case None:
            return Callers("everybody, without credentials", authorizers.everybody)
        case "JWT":
            issuer, audience = given.get("JwtIssuer", ""), given.get("JwtAudience", "")
            admit = authorizers.by_token(known, issuer, audience, jwks)
            return Callers(f"those with an access token of {issuer}", admit)
        case "IAM":
            file = pairs or credentials.made(state / "credentials", sorted(known.policies))
            return Callers(f"those with a key of {file}", authorizers.by_signature(known, file))
        case other:
            raise TemplateError(f"the Authorizer is {other}, and must be IAM or JWT")
