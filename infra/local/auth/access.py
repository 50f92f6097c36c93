"""Who may call what, as template.yaml says it: the scopes of each route, and what policies allow.

Refuses a template that leaves a route without an answer, or answers in a form unknown here.
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
_OF_POLICIES = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/$default/"
"""How the ARNs of calls begin. What follows is `GET/api/v1/resources`."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call the routes of a template."""

    scopes: Mapping[str, tuple[str, ...]]
    """By route key, with JWT: one of these is enough."""
    open_routes: frozenset[str]
    """Those that anybody may call."""
    policies: Mapping[str, tuple[str, ...]]
    """By the name of a policy, with IAM: the calls that it allows, where * stands for anything."""

    def allows(self, policy: str, method: str, path: str) -> bool:
        """Whether IAM lets a caller with this policy through."""
        call = f"{method}{path}"
        return any(fnmatchcase(call, pattern) for pattern in self.policies.get(policy, ()))


def load(path: Path) -> Access:
    """What the template says, whatever its parameters are.

    Raises:
        TemplateError: it says nothing of a route, or something of none, or in another form.
    """
    resources = intrinsics.read(path)["Resources"]
    closed = _closed(resources["Api"]["Properties"])
    routes = dict(_routes(resources))
    opened = frozenset(route for route, authorizer in routes.items() if authorizer == "NONE")
    for route in sorted(routes.keys() ^ (closed.keys() | opened)):
        raise TemplateError(f"{route}: has to be both a route and one that says who may call it")
    for route in sorted(closed.keys() & opened):
        raise TemplateError(f"{route}: is closed, and open at the same time")
    return Access(closed, opened, dict(_policies(resources)))


def _routes(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every route, with an authorizer that its event names by itself."""
    for resource in resources.values():
        events = resource.get("Properties", {}).get("Events", {})
        for event in events.values():
            if event["Type"] == "HttpApi":
                facts = event["Properties"]
                route = f"{facts['Method']} {facts['Path']}" if "Path" in facts else DEFAULT_ROUTE
                yield route, facts.get("Auth", {}).get("Authorizer", "")


def _closed(api: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if api["Auth"] != {"EnableIamAuthorizer": True, "DefaultAuthorizer": "AWS_IAM"}:
        raise TemplateError("Api: what it does with a route that nothing is said of is unknown")
    return {
        DEFAULT_ROUTE if method == _ANY_METHOD else f"{method.upper()} {path}": _scopes(path, facts)
        for path, methods in api["DefinitionBody"]["paths"].items()
        for method, facts in _methods(path, methods).items()
    }


def _methods(path: str, methods: Any) -> Mapping[str, Any]:
    """Those of a path, but for the route without which preflights would be asked for a token."""
    match methods:
        case Intrinsic("If", ["HasCors", {"options": _, **others}, _]) if not others:
            return {}
        case Intrinsic():
            raise TemplateError(f"{path}: who may call it is said in a form that is unknown here")
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
    raise TemplateError(f"{path}: who may call it is said in a form that is unknown here: {facts}")


def _policies(resources: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, resource in resources.items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            statements = resource["Properties"]["PolicyDocument"]["Statement"]
            if "execute-api" not in repr(statements):
                continue  # it is of a function
            (statement,) = statements
            if (statement["Effect"], statement["Action"]) != ("Allow", "execute-api:Invoke"):
                raise TemplateError(f"{name}: does something else than to allow calls")
            yield name, tuple(_call(name, arn) for arn in statement["Resource"])


def _call(policy: str, arn: Any) -> str:
    match arn:
        case Intrinsic("Sub", str(text)) if text.startswith(_OF_POLICIES):
            return text.removeprefix(_OF_POLICIES)
    raise TemplateError(f"{policy}: {arn} is no call that is known here")
