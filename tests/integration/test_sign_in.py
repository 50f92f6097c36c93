"""IAM sign-in to Postgres: a token is only sent to a server with a verified certificate."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.credentials import Credentials

from infra.local.services import APP, DATABASE
from openreserve.postgres import connection as postgres_connection
from openreserve.runtime import iam_auth
from tests.conftest import Engine, forget
from tests.integration.test_wire import cut_connections
from tests.support.authority import Authority, Shown
from tests.support.handlers import call, reserve, set_stock
from tests.support.rds import Rds, is_token, rds
from tests.support.rds_proxy import STARTUP_PARAMETERS

HOST = "openreserve.proxy-c1.eu-central-1.rds.amazonaws.com"


@dataclass
class Clock:
    """The clock of the functions and of AWS. Those of the test and of Postgres do not change."""

    monkeypatch: pytest.MonkeyPatch
    aws_ahead_seconds: float = 0

    def move(self, seconds: float, *, aws_too: bool = True) -> None:
        """Set it to this number of seconds ahead of the test's clock."""
        self.aws_ahead_seconds = seconds if aws_too else self.aws_ahead_seconds
        moved = SimpleNamespace(
            time=lambda: time.time() + seconds, strftime=time.strftime, gmtime=time.gmtime
        )
        self.monkeypatch.setattr(iam_auth, "time", moved)

    def aws_time(self) -> float:
        """The time of AWS in seconds since 1970."""
        return time.time() + self.aws_ahead_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@dataclass(frozen=True)
class Certificate:
    """The certificate of the proxy, and the CA bundle that verifies it."""

    shown: Shown
    bundle: str


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    authority = Authority.new()
    bundle = f"&sslrootcert={authority.bundle(tmp_path)}"
    return Certificate(authority.vouch(HOST, tmp_path), bundle)


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """The credentials of the functions, set in their environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/secret+key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/session+token==")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("DATABASE_AUTH", "iam")
    return Credentials("ASIAEXAMPLE", "a/secret+key", "a/session+token==")


@pytest.fixture
def proxy(
    engine: Engine,
    certificate: Certificate,
    signer: Credentials,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rds]:
    """A fake RDS Proxy, configured for the functions together with its CA bundle."""

    def accepts(user: str, password: str) -> bool:
        host = f"{HOST}:{seen.port}"
        return is_token(password, host, user, signer, clock.aws_time())

    with rds(engine.direct_url, certificate.shown.context, accepts) as seen:
        connect_functions_to(seen, monkeypatch, HOST, certificate.bundle)
        yield seen
        forget()


def connect_functions_to(
    proxy: Rds, monkeypatch: pytest.MonkeyPatch, host: str, more: str = ""
) -> None:
    """Make the functions connect to this host name, independent of the certificate."""
    monkeypatch.setenv(
        "DATABASE_URL",
        f"postgresql://{APP}@{host}:{proxy.port}/{DATABASE}?hostaddr=127.0.0.1{more}",
    )
    forget()


def test_a_token_opens_a_verified_connection_once_and_not_with_each_request(
    proxy: Rds, name: str
) -> None:
    assert set_stock(name, 5).status == 201
    assert reserve((name, 1)).status == 200

    assert len(proxy.passwords) == 1
    (startup,) = proxy.startups
    assert startup["user"] == APP
    assert set(startup) - {""} <= STARTUP_PARAMETERS


@pytest.mark.parametrize("weaker", ["", "&sslmode=require", "&sslmode=disable"])
def test_the_token_is_not_sent_to_a_server_of_another_name(
    proxy: Rds, certificate: Certificate, weaker: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_functions_to(proxy, monkeypatch, f"other-{HOST}", certificate.bundle + weaker)

    refused = reserve((name, 1))

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert proxy.passwords == []


def test_the_token_is_not_sent_to_a_server_without_an_amazon_certificate(
    proxy: Rds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a bundle in the URL, the Amazon root certificates apply."""
    connect_functions_to(proxy, monkeypatch, HOST)

    refused = reserve((name, 1))

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert proxy.passwords == []


def test_a_refused_sign_in_is_logged_without_the_token(
    proxy: Rds, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    reserve((name, 1))
    connect_functions_to(proxy, monkeypatch, HOST)
    reserve((name, 1))

    log = str([vars(record) for record in caplog.records])
    assert "password authentication failed" in log
    assert "certificate verify failed" in log
    assert "X-Amz" not in log


def test_a_connection_lost_after_the_token_expired_is_replaced_with_a_new_token(
    proxy: Rds, engine: Engine, clock: Clock, name: str
) -> None:
    set_stock(name, 5)
    cut_connections(engine)
    clock.move(iam_auth.EXPIRES_SECONDS + 1)

    assert reserve((name, 1)).status == 200

    first, second = proxy.passwords
    assert first != second


def test_an_expired_token_is_refused(proxy: Rds, clock: Clock, name: str) -> None:
    """The fake is strict: otherwise the test above would pass with any token."""
    clock.move(-iam_auth.EXPIRES_SECONDS - 2, aws_too=False)

    assert reserve((name, 1)).status == 503
    assert len(proxy.passwords) == 1


def test_rotated_credentials_sign_the_next_connection(
    proxy: Rds, engine: Engine, signer: Credentials, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stock(name, 5)
    signer.secret_key = "rotated"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "rotated")
    cut_connections(engine)

    assert reserve((name, 1)).status == 200
    assert len(proxy.passwords) == 2


def test_without_credentials_no_connection_is_attempted(
    proxy: Rds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    refused = reserve((name, 1))

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert proxy.startups == []


def test_health_distinguishes_a_proxy_that_refuses_connections(
    proxy: Rds, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("health").json["postgres"] == "ok"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    forget()

    assert call("health").status == 503
    assert len(proxy.passwords) >= 2


def test_a_silently_unreachable_server_is_detected_within_seconds(proxy: Rds, name: str) -> None:
    """Before the function timeout of 10 seconds."""
    set_stock(name, 5)
    connection = postgres_connection._connection.get()
    assert connection is not None

    with socket.socket(fileno=connection.fileno()) as dialled:
        idle, interval, count, unanswered_ms = (
            dialled.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        )
        dialled.detach()

    assert proxy.startups
    assert idle + interval * count <= 5
    assert unanswered_ms == 5_000


def test_an_unknown_authentication_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_AUTH", "IAM")
    forget()

    assert call("health").status == 500
    monkeypatch.undo()
    forget()
