"""Signing in to Postgres on AWS: a token for a password, told only to whom a certificate names."""

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
    """Of the functions and of AWS; those of the test and of Postgres go on."""

    monkeypatch: pytest.MonkeyPatch
    aws_ahead_seconds: float = 0

    def move(self, seconds: float, *, aws_too: bool = True) -> None:
        """To so many seconds ahead of the test's."""
        self.aws_ahead_seconds = seconds if aws_too else self.aws_ahead_seconds
        moved = SimpleNamespace(
            time=lambda: time.time() + seconds, strftime=time.strftime, gmtime=time.gmtime
        )
        self.monkeypatch.setattr(iam_auth, "time", moved)

    def of_aws(self) -> float:
        """Its seconds since 1970."""
        return time.time() + self.aws_ahead_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@dataclass(frozen=True)
class Vouched:
    """What the proxy shows, and the file of who vouches for it."""

    shown: Shown
    bundle: str


@pytest.fixture
def vouched(tmp_path: Path) -> Vouched:
    authority = Authority.new()
    bundle = f"&sslrootcert={authority.bundle(tmp_path)}"
    return Vouched(authority.vouch(HOST, tmp_path), bundle)


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """The role of the functions, in their environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/secret+key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/session+token==")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("DATABASE_AUTH", "iam")
    return Credentials("ASIAEXAMPLE", "a/secret+key", "a/session+token==")


@pytest.fixture
def proxy(
    engine: Engine,
    vouched: Vouched,
    signer: Credentials,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rds]:
    """RDS Proxy, where the functions look for it, and they know who vouches for it."""

    def lets_in(user: str, password: str) -> bool:
        host = f"{HOST}:{seen.port}"
        return is_token(password, host, user, signer, clock.of_aws())

    with rds(engine.direct_url, vouched.shown.context, lets_in) as seen:
        lead_to(seen, monkeypatch, HOST, vouched.bundle)
        yield seen
        forget()


def lead_to(proxy: Rds, monkeypatch: pytest.MonkeyPatch, host: str, more: str = "") -> None:
    """Make the functions look for the proxy under this name, whatever it shows."""
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
    proxy: Rds, vouched: Vouched, weaker: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to(proxy, monkeypatch, f"other-{HOST}", vouched.bundle + weaker)

    refused = reserve((name, 1))

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert proxy.passwords == []


def test_the_token_is_not_sent_to_a_server_without_an_amazon_certificate(
    proxy: Rds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no other bundle in the URL, the roots of Amazon are the ones that count."""
    lead_to(proxy, monkeypatch, HOST)

    refused = reserve((name, 1))

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert proxy.passwords == []


def test_why_postgres_does_not_let_us_in_is_in_the_log_and_the_token_is_not(
    proxy: Rds, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    reserve((name, 1))
    lead_to(proxy, monkeypatch, HOST)
    reserve((name, 1))

    log = str([vars(record) for record in caplog.records])
    assert "password authentication failed" in log
    assert "certificate verify failed" in log
    assert "X-Amz" not in log


def test_a_connection_that_is_lost_after_the_token_is_over_is_replaced_with_a_new_one(
    proxy: Rds, engine: Engine, clock: Clock, name: str
) -> None:
    set_stock(name, 5)
    cut_connections(engine)
    clock.move(iam_auth.EXPIRES_SECONDS + 1)

    assert reserve((name, 1)).status == 200

    first, second = proxy.passwords
    assert first != second


def test_a_token_that_is_over_does_not_let_in(proxy: Rds, clock: Clock, name: str) -> None:
    """That the stand-in is as strict as it should be: the test above would pass with any token."""
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


def test_without_credentials_postgres_is_not_asked(
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


def test_a_server_that_is_gone_without_a_word_is_noticed_within_seconds(
    proxy: Rds, name: str
) -> None:
    """Before the 10 seconds that a function may take are over."""
    set_stock(name, 5)
    connection = postgres_connection._of_this_thread.connection
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


def test_a_way_to_sign_in_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_AUTH", "IAM")
    forget()

    assert call("health").status == 500
    monkeypatch.undo()
    forget()
