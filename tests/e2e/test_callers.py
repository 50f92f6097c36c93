"""The identity of the caller in Lambda events, and the loading of keys and credentials."""

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
from infra.local.auth.authorizers import Admit
from infra.local.template.intrinsics import TemplateError
from openreserve.client.signing import sigv4
from tests.e2e.test_gateway import send, served
from tests.support.handlers import Reply
from tests.support.issuer import AUDIENCES, ISSUER, Issuer, key_pair
from tests.support.scripted_http import Step, scripted

OURS = Issuer()
OF_OURS = PyJWKSet.from_json(OURS.jwks).__getitem__
ROUTE = "GET /do/{what}"
ACCESS = Access(
    scopes={ROUTE: ("see", "do"), "POST /do/{what}": ("do",)},
    open_routes=frozenset(),
    policies={"BuyerPolicy": ("GET/do/*",), "OperatorPolicy": ()},
)


async def reply_of(admit: Admit, headers: Mapping[str, str]) -> Reply:
    async with served(admit=admit) as url:
        return await send(f"{url}/do/echo", "GET", headers=headers)


async def test_a_function_receives_the_claims_as_text_and_the_scopes_of_its_route(
    tmp_path: Path,
) -> None:
    (tmp_path / "jwks.json").write_text(OURS.jwks)
    admit = authorizers.by_token(ACCESS, ISSUER, AUDIENCES, str(tmp_path / "jwks.json"))
    claims: dict[str, Any] = {"exp": 4_102_444_800, "admin": True, "groups": ["a", "b"]}
    token = OURS.token("email see", aud=["x", "shop"], iat=None, **claims)

    context = (await reply_of(admit, {"Authorization": f"Bearer {token}"})).json["requestContext"]

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
    file = credentials.made(tmp_path / "credentials", ACCESS.policies)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "buyer")
    (pair,) = (
        pair
        for pair in credentials.read(file, ACCESS.policies).values()
        if pair.policy == "BuyerPolicy"
    )
    async with served(admit=authorizers.by_signature(ACCESS, file)) as url:
        headers = sigv4(url, "eu-central-1")("GET", f"{url}/do/echo", {}, None)
        reply = await send(f"{url}/do/echo", "GET", headers=headers)

    identity = reply.json["requestContext"]["authorizer"]["iam"]
    assert identity["accessKey"] == pair.access_key_id
    assert identity["userArn"].endswith(":user/buyer")
    assert pair.secret_access_key not in reply.text
    assert pair.secret_access_key not in repr(pair)


async def test_a_signature_for_an_invalid_host_is_refused(tmp_path: Path) -> None:
    file = credentials.made(tmp_path / "credentials", ACCESS.policies)
    key = next(iter(credentials.read(file, ACCESS.policies)))
    now = datetime.now(UTC)
    scope = f"{key}/{now:%Y%m%d}/eu-central-1/execute-api/aws4_request"
    headers = {
        "Host": "[",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date,"
        f" Signature={'0' * 64}",
    }
    async with served(admit=authorizers.by_signature(ACCESS, file)) as url:
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
    verify = auth_jwt.verifier(ISSUER, AUDIENCES.split(","), OF_OURS)
    all_claims = {"exp": 4_102_444_800, "iss": ISSUER} | claims
    token = jwt.encode(
        json.loads(json.dumps(all_claims)), key_pair("key-1"), "RS256", headers={"kid": "key-1"}
    )
    with suppress(auth_jwt.NotValid):
        taken = asyncio.run(verify(token))
        assert set(taken) == set(all_claims)
        assert all(isinstance(text, str) for text in auth_jwt.as_text(taken).values())
        assert all(isinstance(scope, str) for scope in auth_jwt.scopes_of(taken))
        assert "shop" in json.dumps([taken.get("aud"), taken.get("client_id")])


@given(header=st.text() | st.text().map("Bearer {}".format) | st.from_regex(r"[A-Za-z0-9.=]+"))
@example(header="Bearer \udcff.x.y")
def test_any_text_other_than_a_token_is_refused(header: str) -> None:
    with pytest.raises(auth_jwt.NotValid):
        asyncio.run(auth_jwt.verifier(ISSUER, ["shop"], OF_OURS)(header))


async def test_without_an_authorizer_a_function_receives_no_identity() -> None:
    reply = await reply_of(authorizers.everybody, {"Authorization": "Bearer x"})

    assert "authorizer" not in reply.json["requestContext"]


def test_the_keys_are_loaded_from_the_jwks_uri_of_the_issuer() -> None:
    with scripted(Step(200, None)) as server:
        server.steps[:] = [
            Step(200, {"issuer": server.url, "jwks_uri": f"{server.url}/keys"}),
            Step(200, json.loads(OURS.jwks)),
        ]
        find = jwks.found(f"{server.url}/")

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

    with pytest.raises(TemplateError, match="there are no keys of https://id"):
        jwks.found(ISSUER, where if "://" in where else str(tmp_path / where))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no credentials in it"),
        ("[buyer]\n", "no credentials in it"),
        ("rubbish", "no credentials: "),
        ("[buyer]\naws_secret_access_key = x\n", "no credentials: "),
        ("[cook]\naws_access_key_id = a\naws_secret_access_key = x\n", "no CookPolicy"),
    ],
)
def test_a_credentials_file_without_valid_profiles_is_refused(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "credentials").write_text(text)

    with pytest.raises(TemplateError, match=complaint):
        credentials.read(tmp_path / "credentials", ACCESS.policies)


def test_generated_credentials_are_kept(tmp_path: Path) -> None:
    file = credentials.made(tmp_path / "credentials", ACCESS.policies)
    before = file.read_text()

    assert credentials.made(file, ACCESS.policies).read_text() == before
    assert file.stat().st_mode & 0o077 == 0
