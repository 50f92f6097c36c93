"""IAM tokens equal those of the AWS SDK, byte for byte."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from botocore.auth import AUTH_TYPE_MAPS, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from openreserve.runtime import iam_auth
from openreserve.runtime.iam_auth import CannotSign, Signer

NOW = 1_795_000_000.0
HOST = "openreserve.proxy-c1.eu-central-1.rds.amazonaws.com"

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
hosts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}(\.[A-Za-z0-9-]{1,20}){0,4}", fullmatch=True)
signers = st.builds(
    Signer,
    access_key=st.from_regex(r"[A-Z0-9]{16,20}", fullmatch=True),
    secret_key=words,
    session_token=st.none() | words,
    region=st.sampled_from(["eu-central-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1"]),
)


def sdk_credentials(signer: Signer) -> Credentials:
    return Credentials(signer.access_key, signer.secret_key, signer.session_token)


def move_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    moved = SimpleNamespace(time=lambda: now, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(iam_auth, "time", moved)


@pytest.fixture(autouse=True)
def _role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjE/+==")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    move_clock(monkeypatch, NOW)


def signed_at(now: float) -> AbstractContextManager[object]:
    """Freeze the clock of the SDK's signer."""
    return patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(now, UTC))


@given(signers, hosts, st.integers(1, 65_535).filter(lambda port: port != 443), words)
def test_a_token_for_postgres_equals_that_of_the_sdk(
    signer: Signer, host: str, port: int, user: str
) -> None:
    action = {"Action": "connect", "DBUser": user}
    url = iam_auth.presigned(signer, NOW, "rds-db", f"{host}:{port}", action)

    request = AWSRequest("GET", f"https://{host}:{port}/", data=action)
    with signed_at(NOW):
        SigV4QueryAuth(sdk_credentials(signer), "rds-db", signer.region, 900).add_auth(request)
    assert f"https://{url}" == request.url


@given(signers, hosts, words, st.sampled_from(["", "ServerlessCache"]))
def test_a_token_for_elasticache_equals_that_of_the_sdk(
    signer: Signer, cache_name: str, user: str, resource_type: str
) -> None:
    action = {"Action": "connect", "User": user}
    if resource_type:
        action["ResourceType"] = resource_type
    url = iam_auth.presigned(signer, NOW, "elasticache", cache_name, action)

    request = AWSRequest("GET", f"http://{cache_name}/", params=dict(action))
    with signed_at(NOW):
        SigV4QueryAuth(sdk_credentials(signer), "elasticache", signer.region, 900).add_auth(request)
    assert f"http://{url}" == request.url


def test_the_token_equals_that_of_generate_db_auth_token(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the C library (awscrt): it orders the parameters differently.
    monkeypatch.setitem(AUTH_TYPE_MAPS, "v4-query", SigV4QueryAuth)
    rds: Any = botocore.session.get_session().create_client("rds", region_name="eu-central-1")
    with signed_at(NOW):
        sdk_token = rds.generate_db_auth_token(HOST, 5432, "openreserve_app", "eu-central-1")

    assert iam_auth.database_token(HOST, 5432, "openreserve_app") == sdk_token


def test_a_token_for_a_serverless_cache_has_the_resource_type_and_a_lower_case_name() -> None:
    token = iam_auth.cache_token("OpenReserve-Dev", "openreserve-app", "ServerlessCache")

    query = parse_qs(urlsplit(f"//{token}").query)
    assert token.startswith("openreserve-dev/?Action=connect&User=openreserve-app&")
    assert query["ResourceType"] == ["ServerlessCache"]
    assert query["X-Amz-Expires"] == ["900"]
    assert "ResourceType" not in iam_auth.cache_token("openreserve-dev", "openreserve-app")


def test_a_token_is_signed_with_the_current_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = iam_auth.database_token(HOST, 5432, "openreserve_app")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDROTATED")

    assert "AKIDEXAMPLE" in before
    assert "AKIDROTATED" in iam_auth.database_token(HOST, 5432, "openreserve_app")


def test_a_token_is_signed_for_the_current_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = iam_auth.database_token(HOST, 5432, "openreserve_app")
    move_clock(monkeypatch, NOW + 901)

    assert "X-Amz-Date=20261118T110640Z" in before
    assert "X-Amz-Date=20261118T112141Z" in iam_auth.database_token(HOST, 5432, "openreserve_app")


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"])
def test_without_credentials_or_region_nothing_is_signed(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(missing)

    with pytest.raises(CannotSign, match=missing):
        iam_auth.database_token(HOST, 5432, "openreserve_app")


class CredentialsServer(BaseHTTPRequestHandler):
    """The credential endpoint that SnapStart environments have instead of variables."""

    answer = json.dumps(
        {"AccessKeyId": "ASIARESTORED", "SecretAccessKey": "secret", "Token": "session/token"}
    ).encode()

    def do_GET(self) -> None:
        known = (self.path, self.headers["Authorization"]) == ("/2021/credentials", "of-this-one")
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(self.answer if known else b"no")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def credentials_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), CredentialsServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/2021/credentials"
        server.shutdown()
        thread.join()


def test_after_a_snapshot_credentials_come_from_the_container_endpoint(
    credentials_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials_server)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-this-one")

    assert iam_auth.signer() == Signer("ASIARESTORED", "secret", "session/token", "eu-central-1")


@pytest.mark.parametrize("authorization", ["of-another", None])
def test_unavailable_container_credentials_sign_nothing(
    credentials_server: str, authorization: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials_server)
    if authorization is not None:
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", authorization)

    with pytest.raises(CannotSign):
        iam_auth.signer()


def test_the_repr_of_a_signer_hides_its_secrets() -> None:
    assert "wJalr" not in repr(iam_auth.signer())
    assert "IQoJ" not in repr(iam_auth.signer())
