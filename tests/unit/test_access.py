"""Authorization on AWS: closed by default, and the same in routes, policies and documents."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra import openapi
from infra.local.auth import access
from infra.local.template.intrinsics import TemplateError
from infra.local.template.model import DEFAULT_ROUTE
from openreserve.http.routes import EVERYTHING_ELSE, ROUTES
from tests.support.sam_transform import TEMPLATE, Change, transformed

ROOT = TEMPLATE.parent
ACCESS = access.load(TEMPLATE)
HEALTH = {"GET /health", "GET /api/v1/health", "HEAD /health", "HEAD /api/v1/health"}
IAM = {"Authorizer": "IAM"}
JWT = {"Authorizer": "JWT", "JwtIssuer": "https://id.example", "JwtAudience": "shop,office"}
READ, RESERVE, OPERATE = "openreserve/read", "openreserve/reserve", "openreserve/operate"


def body(parameters: Mapping[str, str] | None = None, change: Change = lambda _: None) -> Any:
    return transformed(parameters, change)["Resources"]["Api"]["Properties"]["Body"]


def securities(document: Any) -> dict[str, Any]:
    """The security of each route, by route key, as API Gateway imports it."""
    return {
        DEFAULT_ROUTE if path == DEFAULT_ROUTE else f"{method.upper()} {path}": facts["security"]
        for path, methods in document["paths"].items()
        for method, facts in methods.items()
        if "x-amazon-apigateway-integration" in facts
    }


def known_routes() -> set[str]:
    return {DEFAULT_ROUTE} | {key for route in ROUTES for key in route.keys}


def but_for_head(routes: Iterable[str]) -> set[str]:
    return {route for route in routes if not route.startswith("HEAD ")}


def test_the_api_requires_iam_by_default() -> None:
    by_route = securities(body())

    assert set(by_route) == known_routes()
    assert {
        route for route, security in by_route.items() if security != [{"AWS_IAM": []}]
    } == HEALTH


@pytest.mark.parametrize(("parameters", "scheme"), [(IAM, "AWS_IAM"), (JWT, "JWT")])
def test_every_route_but_health_has_the_authorizer(parameters: dict[str, str], scheme: str) -> None:
    document = body(parameters)
    by_route = securities(document)

    assert set(by_route) == known_routes()
    for route, security in by_route.items():
        (requirement,) = security
        assert set(requirement) == ({"NONE"} if route in HEALTH else {scheme}), route
    assert "x-amazon-apigateway-authtype" in document["components"]["securitySchemes"]["AWS_IAM"]
    assert scheme in document["components"]["securitySchemes"]


def test_with_jwt_every_route_but_health_requires_a_scope() -> None:
    for route, security in securities(body(JWT)).items():
        if route not in HEALTH:
            assert security[0]["JWT"] == list(ACCESS.scopes[route])
            assert set(security[0]["JWT"]) <= {READ, RESERVE, OPERATE}


def test_with_jwt_the_issuer_and_every_audience_reach_api_gateway() -> None:
    schemes = body(JWT)["components"]["securitySchemes"]

    assert schemes["JWT"] == {
        "type": "oauth2",
        "x-amazon-apigateway-authorizer": {
            "type": "jwt",
            "identitySource": "$request.header.Authorization",
            "jwtConfiguration": {"issuer": "https://id.example", "audience": ["shop", "office"]},
        },
    }


def test_with_iam_no_jwt_authorizer_is_created() -> None:
    """API Gateway creates every authorizer of the document, and refuses one without an issuer."""
    assert set(body(IAM)["components"]["securitySchemes"]) == {"AWS_IAM"}
    assert "jwtConfiguration" not in json.dumps(transformed(IAM))


@pytest.mark.parametrize("parameters", [IAM, JWT])
def test_a_new_route_without_a_security_entry_is_closed(
    parameters: dict[str, str],
) -> None:
    def add_route(document: dict[str, Any]) -> None:
        document["Resources"]["StockFunction"]["Properties"]["Events"]["New"] = {
            "Type": "HttpApi",
            "Properties": {"ApiId": {"Ref": "Api"}, "Method": "PUT", "Path": "/api/v1/new"},
        }

    assert securities(body(parameters, add_route))["PUT /api/v1/new"] == [{"AWS_IAM": []}]


def test_no_parameter_value_disables_authorization() -> None:
    assert transformed()["Parameters"]["Authorizer"]["AllowedValues"] == ["IAM", "JWT"]


@pytest.mark.parametrize("missing", ["JwtIssuer", "JwtAudience"])
def test_tokens_without_an_issuer_or_an_audience_are_refused_before_anything_is_deployed(
    missing: str,
) -> None:
    rule = transformed(JWT | {missing: ""})["Rules"]["JwtHasItsProvider"]

    assert rule["RuleCondition"] == {"Fn::Equals": ["JWT", "JWT"]}
    compared = [assertion["Assert"]["Fn::Not"][0]["Fn::Equals"] for assertion in rule["Assertions"]]
    assert [left == right for left, right in compared] == [
        missing == "JwtIssuer",
        missing == "JwtAudience",
    ]


def test_stock_and_the_back_office_need_more_scopes_than_reserving() -> None:
    for_buyers = {route for route, scopes in ACCESS.scopes.items() if RESERVE in scopes}

    assert but_for_head(for_buyers) == {
        DEFAULT_ROUTE,
        "GET /api/v1/resources",
        "GET /api/v1/resources/{resourceId}",
        "POST /api/v1/reserve",
        "POST /api/v1/commit",
        "POST /api/v1/release",
        "GET /api/v1/reservations/{token}",
    }


def test_the_read_scope_sees_no_token_and_changes_nothing() -> None:
    """A token is enough to settle its reservation, and events and lists contain tokens."""
    for_readers = {route for route, scopes in ACCESS.scopes.items() if READ in scopes}

    assert but_for_head(for_readers) == {
        DEFAULT_ROUTE,
        "GET /api/v1/resources",
        "GET /api/v1/resources/{resourceId}",
    }


def test_the_template_requires_the_declared_scopes_and_the_same_for_head() -> None:
    for route in ROUTES:
        for key in route.keys:
            assert ACCESS.scopes.get(key, ()) == tuple(scope.value for scope in route.scopes)
            assert policies_of(key) == policies_of(route.key)
    assert ACCESS.scopes[DEFAULT_ROUTE] == tuple(scope.value for scope in EVERYTHING_ELSE.scopes)


@pytest.mark.parametrize(
    ("policy", "scope"), [("BuyerPolicy", RESERVE), ("OperatorPolicy", OPERATE)]
)
def test_a_policy_allows_the_calls_that_its_scope_allows_and_no_others(
    policy: str, scope: str
) -> None:
    for route, scopes in ACCESS.scopes.items():
        if route != DEFAULT_ROUTE:
            method, _, path = route.partition(" ")
            call = re.sub(r"{\w+}", "5f0c%2Fx", path)
            assert ACCESS.allows(policy, method, call) == (scope in scopes), route
    for call in ("/", "/api/v1", "/api/v2/resources", "/api/v1/reserve/x"):
        assert not ACCESS.allows(policy, "POST", call), call


def test_each_pattern_of_a_policy_matches_a_route() -> None:
    """A pattern without a route would allow unintended calls."""
    for patterns in ACCESS.policies.values():
        for pattern in patterns:
            method, _, path = pattern.partition("/")
            form = re.compile(f"{method} /{path.replace('*', '.*')}")
            assert any(form.fullmatch(route) for route in ACCESS.scopes), pattern


def test_the_policies_exist_with_iam_only_and_their_arns_are_outputs() -> None:
    with_iam, with_jwt = transformed(IAM), transformed(JWT)

    for name in ("BuyerPolicy", "OperatorPolicy"):
        assert with_iam["Resources"][name]["Type"] == "AWS::IAM::ManagedPolicy"
        assert with_iam["Outputs"][f"{name}Arn"]["Value"] == {"Ref": name}
        assert name not in with_jwt["Resources"]
        assert f"{name}Arn" not in with_jwt["Outputs"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("          /api/v1/adjustments:\n", "          /new:\n"), "POST /api/v1/adjustments"),
        (("          /api/v1/commit:", "          /api/v1/commits:"), "POST /api/v1/commit"),
        (("[{ JWT: [openreserve/operate] }]", "[]"), "a form that is unknown"),
        (("[{ JWT: [openreserve/operate] }]", "[{ JWT: [] }]"), "a form that is unknown"),
        (("[{ AWS_IAM: [] }]", "[]"), "a form that is unknown"),
        (("!If [UsesJwt,", "!If [UsesIam,"), "a form that is unknown"),
        (("DefaultAuthorizer: AWS_IAM", "DefaultAuthorizer: NONE"), "nothing is said of"),
        (("Path: /health, Auth: { Authorizer: NONE }", "Path: /health"), "GET /health"),
        (("Path: /api/v1/reserve }", "Path: /api/v1/reserve, Auth: { Authorizer: NONE } }"),
         "closed, and open"),
        (("Action: execute-api:Invoke", "Action: execute-api:*"), "BuyerPolicy"),
        (("$default/POST/api/v1/commit", "*"), "BuyerPolicy"),
    ],
)  # fmt: skip
def test_a_template_with_an_unknown_security_scheme_is_refused(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = TEMPLATE.read_text()
    assert change[0] in text
    (tmp_path / "template.yaml").write_text(text.replace(*change))

    with pytest.raises(TemplateError, match=re.escape(complaint)):
        access.load(tmp_path / "template.yaml")


def operations() -> Iterator[tuple[str, Any]]:
    for path, methods in openapi.document()["paths"].items():
        for method, described in methods.items():
            yield f"{method.upper()} {path}", described


def test_the_openapi_document_has_the_scopes_of_the_template() -> None:
    for route, described in operations():
        if route in HEALTH:
            assert described["security"] == []
            assert not {"401", "403"} & described["responses"].keys()
        else:
            scopes = [need["jwt"] for need in described["security"] if "jwt" in need]
            assert scopes == [[scope] for scope in ACCESS.scopes[route]]
            assert {"sigv4": []} in described["security"]
            assert {"401", "403"} <= described["responses"].keys()


def test_the_docs_have_the_scopes_and_the_policies_of_the_template() -> None:
    guide = (ROOT / "docs/how-to/authorization.md").read_text()
    rows = re.findall(r"^\| `(openreserve/\w+)` \| `?(\w*)`? ?\|", guide, re.MULTILINE)

    assert dict(rows) == {READ: "", RESERVE: "BuyerPolicy", OPERATE: "OperatorPolicy"}


def policies_of(route: str) -> set[str]:
    method, _, path = route.partition(" ")
    return {name for name in ACCESS.policies if ACCESS.allows(name, method, path)}
