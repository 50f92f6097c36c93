"""The credentials of the load test for a deployed stage."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from functools import reduce

import pytest

from tests.load import stage
from tests.load.parameters import CannotRun

URL = "https://abc123.execute-api.eu-west-1.amazonaws.com/api/v1/reserve"
SECRET = "wJalrXUtnFEMI"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AUTHORIZATION", "OPENRESERVE_TOKEN", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    stage.authority.cache_clear()
    yield
    stage.authority.cache_clear()


def test_no_credentials_are_required_by_default() -> None:
    assert stage.authority()("POST", URL, b"{}") == {}


def test_a_bearer_token_is_sent_with_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHORIZATION", "bearer")
    monkeypatch.setenv("OPENRESERVE_TOKEN", "secret")

    assert stage.authority()("GET", URL, b"") == {"authorization": "Bearer secret"}


def test_sigv4_signs_method_path_and_body_for_the_region_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTHORIZATION", "sigv4")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    headers = stage.authority()("POST", URL, b'{"quantity": 1}')

    moment = headers["X-Amz-Date"]
    scope = f"{moment[:8]}/eu-west-1/execute-api/aws4_request"
    assert (
        f"Credential=AKIDEXAMPLE/{scope}, SignedHeaders=host;x-amz-date"
        in (headers["Authorization"])
    )
    signatures = re.findall(r"Signature=(\w+)", headers["Authorization"])
    assert signatures == [_signature(moment, scope, b'{"quantity": 1}')]


def _signature(moment: str, scope: str, body: bytes) -> str:
    """As documented for Signature Version 4."""
    host = URL.split("/")[2]
    canonical = (
        f"POST\n/api/v1/reserve\n\nhost:{host}\nx-amz-date:{moment}\n\nhost;x-amz-date\n"
        + hashlib.sha256(body).hexdigest()
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = reduce(_mac, scope.split("/"), f"AWS4{SECRET}".encode())
    return _mac(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AUTHORIZATION": "basic"}, "AUTHORIZATION"),
        ({"AUTHORIZATION": "bearer"}, "OPENRESERVE_TOKEN"),
    ],
)
def test_unavailable_credentials_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(CannotRun, match=reason):
        stage.authority()
