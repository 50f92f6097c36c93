"""The caller identity that a function receives, and the loading of keys and credentials."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jwt import PyJWKSet

from infra.local.auth import authorizers, credentials, jwks
from infra.local.auth import jwt as auth_jwt
from infra.local.auth.access import Access
from infra.local.auth.authorizers import Authorizer
from infra.local.template.intrinsics import TemplateError
from openreserve_client.signing import sigv4
from tests.e2e.test_gateway import send, served
from tests.support.handlers import Reply
from tests.support.issuer import AUDIENCES, ISSUER, Issuer, key_pair
from tests.support.scripted_http import Step, scripted

OURS = Issuer()
FIND_KEY = PyJWKSet.from_json(OURS.jwks).__getitem__
ROUTE = "GET /do/{what}"
ACCESS = Access(
    scopes={ROUTE: ("see", "do"), "POST /do/{what}": ("do",)},
    open_routes=frozenset(),
    policies={"BuyerPolicy": ("GET/do/*",), "OperatorPolicy": ()},
)


async def call(authorize: Authorizer, headers: Mapping[str, str]) -> Reply:
    async with served(authorize=authorize) as url:
        return await send(f"{url}/do/echo", "GET", headers=headers)


async def test_a_function_receives_the_claims_as_text_and_the_scopes_of_its_route(
    tmp_path: Path,
) -> None:
    (tmp_path / "jwks.json").write_text(OURS.jwks)
    authorize = authorizers.jwt_authorizer(ACCESS, ISSUER, AUDIENCES, str(tmp_path / "jwks.json"))
    claims: dict[str, Any] = {"exp": 4_102_444_800, "admin": True, "groups": ["a", "b"]}
    token = OURS.token("email see", aud=["x", "shop"], iat=None, **claims)

    context = (await call(authorize, {"Authorization": f"Bearer {token}"})).json["requestContext"]

    assert context["authorizer"] == {
        "jwt": {
            "claims": {
                "iss": ISSUER,
                "aud": "[x shop]",
                "sub": "a-shop",
                "scope": "email see",
                "exp": "4102444800",
                "admin": "true",
                "groups": "[a b]",
            },
            "scopes": ["see"],
        }
    }


async def test_a_function_receives_the_identity_of_the_signing_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = credentials.ensure(tmp_path / "credentials", ACCESS.policies)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "buyer")
    (key,) = (
        key
        for key in credentials.read(file, ACCESS.policies).values()
        if key.policy == "BuyerPolicy"
    )
    async with served(authorize=authorizers.iam_authorizer(ACCESS, file)) as url:
        headers = sigv4(url, "eu-central-1")("GET", f"{url}/do/echo", {}, None)
        reply = await send(f"{url}/do/echo", "GET", headers=headers)

    identity = reply.json["requestContext"]["authorizer"]["iam"]
    assert identity["accessKey"] == key.access_key_id
    assert identity["userArn"].endswith(":user/buyer")
    assert key.secret_access_key not in reply.text
    assert key.secret_access_key not in repr(key)


async def test_a_signature_for_an_invalid_host_is_rejected(tmp_path: Path) -> None:
    file = credentials.ensure(tmp_path / "credentials", ACCESS.policies)
    key = next(iter(credentials.read(file, ACCESS.policies)))
    now = datetime.now(UTC)
    scope = f"{key}/{now:%Y%m%d}/eu-central-1/execute-api/aws4_request"
    headers = {
        "Host": "[",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date,"
        f" Signature={'0' * 64}",
    }
    async with served(authorize=authorizers.iam_authorizer(ACCESS, file)) as url:
        reply = await send(f"{url}/do/echo", "GET", headers=headers)

    assert (reply.status, reply.json) == (403, {"message": "Forbidden"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("shop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["aud", "client_id", "scope", "scp", "sub", "nbf", "iat", "x"]), JSON
)


@given(claims=CLAIMS)
@settings(max_examples=150)
def test_any_claims_in_a_signed_token_are_accepted_or_refused(claims: dict[str, Any]) -> None:
    verify = auth_jwt.verifier(ISSUER, AUDIENCES.split(","), FIND_KEY)
    all_claims = {"exp": 4_102_444_800, "iss": ISSUER} | claims
    token = jwt.encode(
        json.loads(json.dumps(all_claims)), key_pair("key-1"), "RS256", headers={"kid": "key-1"}
    )
    with suppress(auth_jwt.InvalidToken):
        verified = asyncio.run(verify(token))
        assert set(verified) == set(all_claims)
        assert all(isinstance(text, str) for text in auth_jwt.as_text(verified).values())
        assert all(isinstance(scope, str) for scope in auth_jwt.scopes_of(verified))
        assert "shop" in json.dumps([verified.get("aud"), verified.get("client_id")])


@given(header=st.text() | st.text().map("Bearer {}".format) | st.from_regex(r"[A-Za-z0-9.=]+"))
@example(header="Bearer \udcff.x.y")
def test_any_text_that_is_not_a_token_is_refused(header: str) -> None:
    with pytest.raises(auth_jwt.InvalidToken):
        asyncio.run(auth_jwt.verifier(ISSUER, ["shop"], FIND_KEY)(header))


async def test_without_an_authorizer_a_function_receives_no_identity() -> None:
    reply = await call(authorizers.allow_all, {"Authorization": "Bearer x"})

    assert "authorizer" not in reply.json["requestContext"]


def test_openid_discovery_finds_the_keys_of_the_issuer() -> None:
    with scripted(Step(200, None)) as server:
        server.steps[:] = [
            Step(200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}),
            Step(200, json.loads(OURS.jwks)),
        ]
        find = jwks.load(f"{server.url}/")

        assert find("key-1").key_id == "key-1"
        assert [asked.path for asked in server.asked] == [
            "/.well-known/openid-configuration",
            "/keys",
        ]
        with pytest.raises(KeyError):
            find("key-2")


@pytest.mark.parametrize(
    ("where", "content"),
    [
        ("missing.json", None),
        ("jwks.json", "no json"),
        ("jwks.json", '{"keys": []}'),
        ("jwks.json", "[]"),
        ("ftp://id.example/keys", None),
    ],
)
def test_unavailable_jwks_are_reported_at_start(
    tmp_path: Path, where: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / where).write_text(content)

    with pytest.raises(TemplateError, match="cannot load the signing keys of https://id"):
        jwks.load(ISSUER, where if "://" in where else str(tmp_path / where))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no credentials"),
        ("[buyer]\n", "has no credentials"),
        ("rubbish", "cannot read credentials: "),
        ("[buyer]\naws_secret_access_key = x\n", "cannot read credentials: "),
        ("[cook]\naws_access_key_id = a\naws_secret_access_key = x\n", "needs a policy CookPolicy"),
    ],
)
def test_a_credentials_file_without_access_keys_is_rejected(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "credentials").write_text(text)

    with pytest.raises(TemplateError, match=complaint):
        credentials.read(tmp_path / "credentials", ACCESS.policies)


def test_generated_access_keys_are_kept(tmp_path: Path) -> None:
    file = credentials.ensure(tmp_path / "credentials", ACCESS.policies)
    before = file.read_text()

    assert credentials.ensure(file, ACCESS.policies).read_text() == before
    assert file.stat().st_mode & 0o077 == 0
