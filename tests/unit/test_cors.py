"""CORS in template.yaml, for API Gateway and for the local runtime."""

import re
from pathlib import Path
from typing import Any

import pytest

from functions.stock import app
from infra.local.auth.access import load
from infra.local.http.cors import Cors
from infra.local.template import model
from infra.local.template.intrinsics import TemplateError
from infra.openapi.operations import operations
from openreserve.http.routes import OPTIONS, ROUTES
from tests.e2e.runtime import ROOT
from tests.support.sam_transform import transformed
from tests.support.stack import TEMPLATE

ORIGINS = "https://shop.example,https://www.shop.example"
CALLED = {"CorsAllowOrigins": ORIGINS}
SERVERS = {"DatabaseUrl": "a url", "MigrationUrl": "a url"}


def resources_for(**parameters: str) -> dict[str, Any]:
    resources: dict[str, Any] = transformed(parameters)["Resources"]
    return resources


def body(**parameters: str) -> dict[str, Any]:
    document: dict[str, Any] = resources_for(**parameters)["Api"]["Properties"]["Body"]
    return document


def test_by_default_no_origin_is_allowed_and_there_is_no_options_route() -> None:
    assert "x-amazon-apigateway-cors" not in body()
    assert "/{proxy+}" not in body()["paths"]
    assert "OptionsPermission" not in resources_for()


def test_the_allowed_origins_are_those_of_the_parameter() -> None:
    cors = body(**CALLED)["x-amazon-apigateway-cors"]

    assert cors["allowOrigins"] == ["https://shop.example", "https://www.shop.example"]
    assert "allowCredentials" not in cors, "a token is in a header, and no cookie is needed"


def test_every_method_and_header_of_the_api_is_allowed() -> None:
    cors = body(**CALLED)["x-amazon-apigateway-cors"]
    methods = {route.method for route in ROUTES}
    headers = {name.lower() for each in operations() for name in each.headers}

    assert set(cors["allowMethods"]) == methods | {"HEAD"}
    assert set(cors["allowHeaders"]) == headers | {"authorization", "content-type"}
    assert set(cors["exposeHeaders"]) == {
        "allow",
        "etag",
        "idempotent-replayed",
        "location",
        "retry-after",
        "x-request-id",
    }


@pytest.mark.parametrize("authorizer", ["IAM", "JWT"])
def test_a_preflight_needs_no_token_and_every_other_request_does(authorizer: str) -> None:
    """The `$default` route would match the preflight and require a token."""
    parameters = {"Authorizer": authorizer, "JwtIssuer": "https://id.example", "JwtAudience": "a"}
    without, with_cors = body(**parameters)["paths"], body(**parameters, **CALLED)["paths"]

    opened = with_cors.pop("/{proxy+}")
    assert with_cors == without
    assert opened.keys() == {"options"}
    assert opened["options"]["security"] == [{"NONE": []}]
    integration = opened["options"]["x-amazon-apigateway-integration"]
    assert integration["uri"]["Fn::Sub"][1] == {"Live": {"Ref": "StockFunctionAliaslive"}}


def test_api_gateway_may_invoke_the_function_of_the_preflight_route() -> None:
    permission = resources_for(**CALLED)["OptionsPermission"]["Properties"]

    assert permission["FunctionName"] == {"Ref": "StockFunctionAliaslive"}
    assert permission["SourceArn"]["Fn::Sub"].endswith(":${Api}/*/OPTIONS/*")


def test_the_function_of_the_preflight_route_handles_it() -> None:
    assert OPTIONS in app.refuse.routes


@pytest.mark.parametrize("origins", ["shop.example", "https://a.example/", "https://a,b", "*"])
def test_an_invalid_origin_is_refused(origins: str) -> None:
    pattern = TEMPLATE["Parameters"]["CorsAllowOrigins"]["AllowedPattern"]

    assert re.fullmatch(pattern, ORIGINS)
    assert re.fullmatch(pattern, "http://localhost:5173")
    assert re.fullmatch(pattern, "")
    assert not re.fullmatch(pattern, origins)


def test_the_local_runtime_reads_the_same_cors_settings() -> None:
    file = ROOT / "template.yaml"
    cors = body(**CALLED)["x-amazon-apigateway-cors"]

    assert model.load(file, SERVERS).cors is None
    assert model.load(file, SERVERS | CALLED).cors == Cors(
        origins=tuple(cors["allowOrigins"]),
        methods=tuple(cors["allowMethods"]),
        headers=tuple(cors["allowHeaders"]),
        exposed=tuple(cors["exposeHeaders"]),
        max_age_seconds=cors["maxAge"],
    )


def test_the_local_runtime_refuses_any_other_route_without_an_authorizer(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    changed = text.replace("            - options:\n", "            - get:\n")
    (tmp_path / "template.yaml").write_text(changed)

    with pytest.raises(TemplateError, match="unknown here"):
        load(tmp_path / "template.yaml")
