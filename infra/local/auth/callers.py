"""Selects the authorizer of the local runtime. Without one it accepts unauthenticated requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.auth import access, authorizers, credentials
from infra.local.auth.authorizers import Authorizer
from infra.local.template.intrinsics import TemplateError


@dataclass(frozen=True, slots=True)
class Callers:
    """An authorizer, and the line that describes it at start-up."""

    description: str
    authorize: Authorizer


def configured(
    parameters: Mapping[str, str],
    template: Path,
    state: Path,
    jwks: str,
    credentials_file: Path | None,
) -> Callers:
    """The authorizer that the parameters of the command line select.

    The template's default applies to AWS only. Without a credentials file, new access keys are
    generated and kept in the folder `state`.

    Raises:
        TemplateError: the parameters are invalid or incomplete.
    """
    rules = access.load(template)
    match parameters.get("Authorizer"):
        case None:
            return Callers("accepts unauthenticated requests", authorizers.allow_all)
        case "JWT":
            issuer = parameters.get("JwtIssuer", "")
            audience = parameters.get("JwtAudience", "")
            authorizer = authorizers.jwt_authorizer(rules, issuer, audience, jwks)
            return Callers(f"requires an access token of {issuer}", authorizer)
        case "IAM":
            file = credentials_file or credentials.ensure(
                state / "credentials", sorted(rules.policies)
            )
            authorizer = authorizers.iam_authorizer(rules, file)
            return Callers(f"requires SigV4 with an access key of {file}", authorizer)
        case other:
            raise TemplateError(f"Authorizer is {other}, and must be IAM or JWT")
