"""The running gateway with JWT and IAM authorizers: every route, with every kind of caller."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import botocore.auth
import pytest

from infra.local.auth import access
from infra.local.template.model import DEFAULT_ROUTE
from openreserve_client import Client
from openreserve_client.signing import bearer, sigv4
from openreserve_client.transport import Sign
from tests.e2e.runtime import ROOT, Runtime, started
from tests.support.handlers import Reply
from tests.support.issuer import AUDIENCES, ISSUER, LATER_SECONDS, Issuer
from tests.support.terminal import in_a_pipe

ACCESS = access.load(ROOT / "template.yaml")
ROUTES = sorted(ACCESS.scopes)
SCOPES = ("openreserve/read", "openreserve/reserve", "openreserve/operate")
ALL = " ".join(SCOPES)
OURS = Issuer()
UNAUTHORIZED = (401, '{"message":"Unauthorized"}')
FORBIDDEN = (403, '{"message":"Forbidden"}')


@pytest.fixture(scope="module")
def jwt_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "jwks.json").write_text(OURS.jwks)
    parameters = ("Authorizer=JWT", f"JwtIssuer={ISSUER}", f"JwtAudience={AUDIENCES}")
    options = [word for parameter in parameters for word in ("--parameter", parameter)]
    with started(folder / "state", *options, "--jwks", str(folder / "jwks.json")) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def iam_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    state = tmp_path_factory.mktemp("signatures") / "state"
    with started(state, "--parameter", "Authorizer=IAM") as runtime:
        yield runtime


def call_of(route: str) -> tuple[str, str]:
    """The method and a path of a route; for `$default` those of no other route."""
    if route == DEFAULT_ROUTE:
        return "PUT", "/api/v1/nothing"
    method, _, path = route.partition(" ")
    return method, re.sub(r"{\w+}", "a", path)


def with_token(runtime: Runtime, route: str, token: str) -> Reply:
    method, path = call_of(route)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return runtime.call(method, path, {} if method == "POST" else None, headers)


def refusal(reply: Reply) -> tuple[int, str]:
    """Status and body. The response to HEAD has none: then the expected body of its status."""
    bodies = dict((UNAUTHORIZED, FORBIDDEN))
    return reply.status, reply.text or bodies.get(reply.status, "")


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
def test_health_needs_no_credentials(jwt_runtime: Runtime, iam_runtime: Runtime, path: str) -> None:
    for runtime in (jwt_runtime, iam_runtime):
        assert runtime.call("GET", path).status == 200
        assert runtime.call("GET", path, headers={"Authorization": "Bearer x"}).status == 200


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_token_every_route_returns_401(jwt_runtime: Runtime, route: str) -> None:
    reply = with_token(jwt_runtime, route, "")

    assert refusal(reply) == UNAUTHORIZED
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (OURS.token(ALL, exp=int(time.time()) - 1), "the token has expired"),
        (OURS.token(ALL, exp=None), "exp"),
        (OURS.token(ALL, nbf=int(time.time()) + LATER_SECONDS), "not yet valid"),
        (OURS.token(ALL, iat=int(time.time()) + LATER_SECONDS), "not yet valid"),
        (OURS.token(ALL, aud="another-shop"), "the token does not have a valid audience"),
        (OURS.token(ALL, aud=["a", "b"]), "the token does not have a valid audience"),
        (OURS.token(ALL, aud=None), "the token does not have a valid audience"),
        (OURS.token(ALL, aud="x", client_id="shop"), "the token does not have a valid audience"),
        (OURS.token(ALL, iss="https://id.example"), "issuer"),
        (OURS.token(ALL, iss=None), "iss"),
        (Issuer("key-2").token(ALL), "an unknown key"),
        (OURS.token(ALL, signed_by="key-2"), "signature"),
        (OURS.unsigned_token(ALL), "alg"),
        (OURS.confused_token(ALL), "alg"),
        (OURS.token(ALL)[:-6], "signature"),
        ("not.a.token", "cannot be read"),
    ],
    ids=[
        "expired", "for-ever", "too-early", "of-tomorrow", "wrong-audience", "wrong-audiences",
        "no-audience", "audience-before-client", "wrong-issuer", "no-issuer", "unknown-key",
        "another-key", "alg-none", "hs256-with-the-public-key", "cut", "rubbish",
    ],
)  # fmt: skip
def test_an_invalid_token_is_rejected_on_every_route(
    jwt_runtime: Runtime, token: str, why: str
) -> None:
    for route in ROUTES:
        reply = with_token(jwt_runtime, route, token)
        assert refusal(reply) == UNAUTHORIZED, route
        assert 'Bearer scope="" error="invalid_token"' in reply.headers["www-authenticate"]
        assert why in reply.headers["www-authenticate"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_token_grants_only_the_routes_of_its_scope(jwt_runtime: Runtime, route: str) -> None:
    for scope in (*SCOPES, "", "read", "openreserve", "openreserve/readers"):
        reply = with_token(jwt_runtime, route, OURS.token(scope))
        if scope in ACCESS.scopes[route]:
            assert reply.status not in (401, 403), (scope, reply.text)
        else:
            assert refusal(reply) == FORBIDDEN, scope
            assert 'error="insufficient_scope"' in reply.headers["www-authenticate"]


@pytest.mark.parametrize(
    "token",
    [
        OURS.token("email openreserve/read profile"),
        OURS.token(scope=None, scp="openreserve/read"),
        OURS.token(scope=None, scp=["email", "openreserve/read"]),
        OURS.token("openreserve/read", aud="office"),
        OURS.token("openreserve/read", aud=["another-shop", "office"]),
        OURS.token("openreserve/read", aud=None, client_id="shop"),
    ],
    ids=["scope", "scp", "scp-list", "second-audience", "audiences", "client-id"],
)
def test_tokens_of_common_identity_providers_are_accepted(jwt_runtime: Runtime, token: str) -> None:
    assert with_token(jwt_runtime, "GET /api/v1/resources", token).status == 200
    bare = jwt_runtime.call("GET", "/api/v1/resources", headers={"Authorization": token})
    assert bare.status == 200


def test_the_reserve_scope_does_not_allow_setting_stock(jwt_runtime: Runtime) -> None:
    buyer, office = (bearer(OURS.token(f"openreserve/{scope}")) for scope in ("reserve", "operate"))
    body = {"resourceId": "scoped", "totalStock": 5}
    headers = buyer("POST", "", {}, None)

    assert jwt_runtime.call("POST", "/api/v1/resources", body, headers).status == 403
    with Client(jwt_runtime.url, sign=office) as client:
        assert client.set_stock("scoped", 2).total_stock == 2
    with Client(jwt_runtime.url, sign=buyer) as client:
        client.hold("scoped").commit()
        assert client.read_resource("scoped").available_stock == 1


def test_the_command_line_uses_the_configured_token(jwt_runtime: Runtime) -> None:
    variables = {"OPENRESERVE_SERVER_URL": jwt_runtime.url}
    operator = variables | {"OPENRESERVE_TOKEN": OURS.token("openreserve/operate")}
    reader = variables | {"OPENRESERVE_TOKEN": OURS.token("openreserve/read")}
    set_stock = ("stock", "set", "-r", "by-command", "-t", "5")

    assert in_a_pipe(*set_stock, variables=operator).code == 0
    assert in_a_pipe("stock", "check", "-r", "by-command", variables=reader).code == 0
    for said in (
        in_a_pipe(*set_stock, variables=variables),
        in_a_pipe(*set_stock, variables=reader),
    ):
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert "OPENRESERVE_TOKEN" in said.err


def test_the_load_test_runs_with_a_token_and_reports_a_missing_scope(jwt_runtime: Runtime) -> None:
    variables = {"HOST": jwt_runtime.url, "USERS": "6", "STOCK": "2", "RAMP": "1"} | {
        "AUTHORIZATION": "bearer",
        "OPENRESERVE_TOKEN": OURS.token("openreserve/reserve openreserve/operate"),
    }
    exact = _load_test(variables)
    refused = _load_test(variables | {"OPENRESERVE_TOKEN": OURS.token("openreserve/reserve")})

    assert exact.returncode == 0, exact.stdout + exact.stderr
    assert refused.returncode == 2
    assert "403" in refused.stderr


def _load_test(variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.load"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | dict(variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_signature_every_route_is_forbidden(iam_runtime: Runtime) -> None:
    for route in ROUTES:
        for headers in ({}, {"Authorization": f"Bearer {OURS.token(ALL)}"}):
            method, path = call_of(route)
            assert refusal(iam_runtime.call(method, path, None, headers)) == FORBIDDEN, route


def signed(
    runtime: Runtime, profile: str, method: str, path: str, body: Any = None
) -> Mapping[str, str]:
    """Headers with a signature by an access key that the runtime generated."""
    content = None if body is None else json.dumps(body).encode()
    sign = signer(runtime.url, runtime.state / "credentials", profile)
    return sign(method, runtime.url + path, {"content-type": "application/json"}, content)


@cache
def signer(url: str, file: Path, profile: str) -> Sign:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION"):
            patch.delenv(f"AWS_{name}", raising=False)
        patch.delenv("AWS_DEFAULT_REGION", raising=False)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        patch.setenv("AWS_PROFILE", profile)
        return sigv4(url)


@pytest.mark.parametrize(
    ("profile", "policy"), [("buyer", "BuyerPolicy"), ("operator", "OperatorPolicy")]
)
def test_a_signature_grants_only_the_calls_of_the_policy_of_its_key(
    iam_runtime: Runtime, profile: str, policy: str
) -> None:
    for route in ROUTES:
        method, path = call_of(route)
        body: Any = {} if method == "POST" else None
        headers = signed(iam_runtime, profile, method, path, body)
        reply = iam_runtime.call(method, path, body, headers)
        if ACCESS.allows(policy, method, path):
            assert reply.status not in (401, 403), (route, reply.text)
        else:
            assert refusal(reply) == FORBIDDEN, route


def test_a_signature_is_valid_only_for_the_signed_request(iam_runtime: Runtime) -> None:
    path = "/api/v1/resources"
    body: dict[str, Any] = {"resourceId": "signed", "totalStock": 5}
    good = dict(signed(iam_runtime, "operator", "POST", path, body))
    listing = dict(signed(iam_runtime, "operator", "GET", f"{path}?limit=1&prefix=si%20g"))
    call = iam_runtime.call

    assert call("POST", path, body | {"totalStock": 6}, good).status == 403
    assert call("POST", f"{path}/batch", body, good).status == 403
    assert call("POST", f"{path}?dry=1", body, good).status == 403
    assert call("POST", path, body, good | {"content-type": "text/json"}).status == 403
    assert call("POST", path, body, _altered(good, "Signature=", "Signature=0")).status == 403
    assert call("POST", path, body, good | {"x-amz-content-sha256": "0" * 64}).status == 403
    assert call("GET", f"{path}?limit=2&prefix=si%20g", None, listing).status == 403
    assert call("GET", f"{path}?limit=1&prefix=si%20g", None, listing).status == 200
    assert call("GET", f"{path}?prefix=si%20g&limit=1", None, listing).status == 200
    assert call("POST", path, body, good).status == 201


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Credential=AKIA", "Credential=AKIB"),
        ("/eu-central-1/", "/eu-west-1/"),
        ("/execute-api/", "/s3/"),
        ("content-type;host;", "content-type;"),
        ("host;x-amz-date", "host"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
    ],
)
def test_a_signature_by_another_key_or_for_another_request_is_refused(
    iam_runtime: Runtime, old: str, new: str
) -> None:
    headers = dict(signed(iam_runtime, "operator", "GET", "/api/v1/resources"))
    altered = _altered(headers, old, new)

    assert altered != headers
    assert refusal(iam_runtime.call("GET", "/api/v1/resources", None, altered)) == FORBIDDEN


def _altered(headers: dict[str, str], old: str, new: str) -> dict[str, str]:
    return headers | {"Authorization": headers["Authorization"].replace(old, new)}


@pytest.mark.parametrize(("minutes", "status"), [(-6, 403), (6, 403), (-4, 200), (4, 200)])
def test_a_signature_is_valid_for_five_minutes(
    iam_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, minutes: int, status: int
) -> None:
    then = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then)
    headers = signed(iam_runtime, "operator", "GET", "/api/v1/resources")

    assert iam_runtime.call("GET", "/api/v1/resources", None, headers).status == status


def test_the_command_line_signs_with_the_generated_access_keys(iam_runtime: Runtime) -> None:
    file: Path = iam_runtime.state / "credentials"
    variables = {
        "OPENRESERVE_SERVER_URL": iam_runtime.url,
        "OPENRESERVE_SIGV4": "1",
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
    }
    call = ("stock", "set", "-r", "by-command", "-t", "5")
    office = in_a_pipe(*call, variables=variables | {"AWS_PROFILE": "operator"})
    buyer = in_a_pipe(*call, variables=variables | {"AWS_PROFILE": "buyer"})

    assert (office.code, office.err) == (0, "")
    assert (buyer.code, buyer.out, buyer.err.count("\n")) == (2, "", 1)
    assert "OperatorPolicy" in buyer.err
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("Authorizer=NONE",), "Authorizer is NONE, and must be IAM or JWT"),
        (("Authorizer=JWT",), "Authorizer=JWT needs JwtIssuer and JwtAudience"),
        (
            ("Authorizer=JWT", "JwtAudience=a", "JwtIssuer=http://127.0.0.1:9"),
            "cannot load the signing keys of http://127.0.0.1:9",
        ),
    ],
)
def test_a_runtime_without_any_valid_caller_does_not_start(
    tmp_path: Path, options: tuple[str, ...], complaint: str
) -> None:
    given = [word for option in options for word in ("--parameter", option)]

    with pytest.raises(AssertionError, match=complaint), started(tmp_path / "state", *given):
        pass
