"""Access rules of template.yaml: the scopes of each route, and the calls that each policy allows.

Rejects a template with a route without a rule, or with a rule in an unsupported form.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from infra.local.template import intrinsics
from infra.local.template.intrinsics import Intrinsic, TemplateError
from infra.local.template.model import DEFAULT_ROUTE

_ANY_METHOD = "x-amazon-apigateway-any-method"
_POLICY_ARN_PREFIX = (
    "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/$default/"
)
"""Prefix of `execute-api` ARNs. The rest is a call such as `GET/api/v1/resources`."""


@dataclass(frozen=True, slots=True)
class Access:
    """The access rules of a template."""

    scopes: Mapping[str, tuple[str, ...]]
    """By route key, for JWT: a token needs one of these scopes."""
    open_routes: frozenset[str]
    """Route keys that need no credentials."""
    policies: Mapping[str, tuple[str, ...]]
    """By policy name, for IAM: patterns of the calls that it allows. * matches any text."""

    def allows(self, policy: str, method: str, path: str) -> bool:
        """Whether the policy allows the call."""
        call = f"{method}{path}"
        return any(fnmatchcase(call, pattern) for pattern in self.policies.get(policy, ()))


def load(path: Path) -> Access:
    """The access rules of a template, for all values of its parameters.

    Raises:
        TemplateError: a route has no rule, a rule has no route, or its form is unsupported.
    """
    resources = intrinsics.read(path)["Resources"]
    closed = _closed(resources["Api"]["Properties"])
    routes = dict(_routes(resources))
    open_routes = frozenset(route for route, authorizer in routes.items() if authorizer == "NONE")
    for route in sorted(routes.keys() ^ (closed.keys() | open_routes)):
        raise TemplateError(f"{route}: needs both an HttpApi event and a security rule")
    for route in sorted(closed.keys() & open_routes):
        raise TemplateError(f"{route}: is closed, and open at the same time")
    return Access(closed, open_routes, dict(_policies(resources)))


def _routes(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each route key, and the authorizer that its event overrides, if any."""
    for resource in resources.values():
        events = resource.get("Properties", {}).get("Events", {})
        for event in events.values():
            if event["Type"] == "HttpApi":
                properties = event["Properties"]
                route = (
                    f"{properties['Method']} {properties['Path']}"
                    if "Path" in properties
                    else DEFAULT_ROUTE
                )
                yield route, properties.get("Auth", {}).get("Authorizer", "")


def _closed(api: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if api["Auth"] != {"EnableIamAuthorizer": True, "DefaultAuthorizer": "AWS_IAM"}:
        raise TemplateError(
            "Api: Auth has to be AWS_IAM by default, or a route that nothing is said of is open"
        )
    return {
        DEFAULT_ROUTE if method == _ANY_METHOD else f"{method.upper()} {path}": _scopes(path, facts)
        for path, methods in api["DefinitionBody"]["paths"].items()
        for method, facts in _methods(path, methods).items()
    }


def _methods(path: str, methods: Any) -> Mapping[str, Any]:
    """The methods of a path, without the OPTIONS route that exempts CORS preflights from JWT."""
    match methods:
        case Intrinsic("If", ["HasCors", {"options": _, **others}, _]) if not others:
            return {}
        case Intrinsic():
            raise TemplateError(f"{path}: the security rule has a form that is unknown here")
    return methods or {}


def _scopes(path: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    match facts:
        case {
            "security": Intrinsic(
                "If", ["UsesJwt", [{"JWT": [_, *_] as scopes}], [{"AWS_IAM": []}]]
            ),
            **others,
        } if not others:
            return tuple(scopes)
    raise TemplateError(f"{path}: the security rule has a form that is unknown here: {facts}")


def _policies(resources: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, resource in resources.items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            statements = resource["Properties"]["PolicyDocument"]["Statement"]
            if "execute-api" not in repr(statements):
                continue  # a policy of a function
            (statement,) = statements
            if (statement["Effect"], statement["Action"]) != ("Allow", "execute-api:Invoke"):
                raise TemplateError(f"{name}: must only allow execute-api:Invoke")
            yield name, tuple(_call(name, arn) for arn in statement["Resource"])


def _call(policy: str, arn: Any) -> str:
    match arn:
        case Intrinsic("Sub", str(text)) if text.startswith(_POLICY_ARN_PREFIX):
            return text.removeprefix(_POLICY_ARN_PREFIX)
    raise TemplateError(f"{policy}: {arn} is not a known execute-api ARN")
