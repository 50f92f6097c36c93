"""The sign-in of the migrations: a password from the secret that RDS rotates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.migrate import app as migrate_app
from infra.local.aws import Aws
from infra.local.services import DATABASE, OWNER
from openreserve.postgres import owner, sql
from openreserve.postgres.owner import SecretUnreadable
from tests.conftest import Engine, forget
from tests.support.authority import Authority
from tests.support.rds import Rds, rds

HOST = "openreserve.cluster-c1.eu-central-1.rds.amazonaws.com"


@dataclass
class Secret:
    """The secret in Secrets Manager, and the password that the server accepts."""

    manager: Any
    arn: str
    accepted_password: str = "the first"
    written_with_the_next_try: str | None = None

    def write(self, password: str) -> None:
        """Write the secret in the format of RDS."""
        text = json.dumps({"username": OWNER, "password": password})
        self.manager.put_secret_value(SecretId=self.arn, SecretString=text)

    def accepts(self, user: str, password: str) -> bool:
        """Whether the server accepts the password."""
        if self.written_with_the_next_try is not None:
            self.write(self.written_with_the_next_try)
        return (user, password) == (OWNER, self.accepted_password)


@pytest.fixture
def secret(own_aws: Aws, name: str, monkeypatch: pytest.MonkeyPatch) -> Secret:
    for variable, value in own_aws.variables.items():
        monkeypatch.setenv(variable, value)
    manager = own_aws.client("secretsmanager")
    new_secret = Secret(manager, manager.create_secret(Name=f"rds!{name}")["ARN"])
    new_secret.write(new_secret.accepted_password)
    return new_secret


@pytest.fixture
def server(
    engine: Engine, secret: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rds]:
    """The writer of the cluster, at the URL of the migrations."""
    authority = Authority.new()
    shown = authority.vouch(HOST, tmp_path).context
    with rds(engine.direct_url, shown, secret.accepts) as rds_server:
        monkeypatch.setenv("MIGRATION_SECRET_ARN", secret.arn)
        connect_migrations_to(
            rds_server, monkeypatch, HOST, f"&sslrootcert={authority.bundle(tmp_path)}"
        )
        yield rds_server


def connect_migrations_to(
    server: Rds, monkeypatch: pytest.MonkeyPatch, host: str, more: str = ""
) -> None:
    url = f"postgresql://{OWNER}@{host}:{server.port}/{DATABASE}?hostaddr=127.0.0.1{more}"
    monkeypatch.setenv("MIGRATION_URL", url)
    forget()


def run() -> Any:
    return migrate_app.handler({}, None)


def test_the_password_is_read_from_the_secret_on_each_run(server: Rds, secret: Secret) -> None:
    assert run() == {"applied": []}
    secret.accepted_password = "the second"
    secret.write("the second")

    assert run() == {"applied": []}
    assert server.passwords == ["the first", "the second"]


def test_a_password_rotated_before_sign_in_is_read_again(server: Rds, secret: Secret) -> None:
    secret.accepted_password = secret.written_with_the_next_try = "the second"

    assert run() == {"applied": []}
    assert server.passwords == ["the first", "the second"]


def test_a_refused_and_unchanged_password_is_tried_once(server: Rds, secret: Secret) -> None:
    secret.accepted_password = "another"

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        run()
    assert server.passwords == ["the first"]


def test_a_constantly_changing_password_is_tried_twice(server: Rds, secret: Secret) -> None:
    secret.accepted_password, secret.written_with_the_next_try = "another", "the second"

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        run()
    assert server.passwords == ["the first", "the second"]


@pytest.mark.parametrize("weaker", ["", "&sslmode=require"])
def test_the_password_is_sent_only_to_a_server_with_an_rds_certificate(
    server: Rds, weaker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_migrations_to(server, monkeypatch, HOST, weaker)

    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        run()
    assert server.passwords == []


def test_the_password_is_not_sent_to_a_server_of_another_name(
    server: Rds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = f"&sslrootcert={tmp_path / 'authority.pem'}"
    connect_migrations_to(server, monkeypatch, f"other-{HOST}", bundle)

    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        run()
    assert server.passwords == []


def test_a_missing_secret_or_password_fails_the_migration(
    server: Rds, secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.manager.put_secret_value(SecretId=secret.arn, SecretString="{}")
    with pytest.raises(SecretUnreadable, match="KeyError"):
        run()

    monkeypatch.setenv("MIGRATION_SECRET_ARN", f"{secret.arn}-x")
    forget()
    with pytest.raises(SecretUnreadable):
        run()
    assert server.startups == []


def test_without_a_secret_the_url_has_the_credentials(engine: Engine) -> None:
    with owner.connected(engine.owner_url) as connection:
        assert connection.info.user == OWNER


@pytest.mark.parametrize("roles_of_rds", [["rds_iam"], []])
def test_openreserve_app_may_sign_in_with_an_iam_token_on_rds(
    engine: Engine, roles_of_rds: list[str]
) -> None:
    """As on RDS, with the role rds_iam. Everything is undone: roles belong to the cluster."""
    (text,) = [text for name, text in sql.migrations() if name == "0001_roles.sql"]
    admin_url = engine.owner_url.replace(f"{OWNER}@", "postgres@")
    with psycopg.connect(admin_url) as connection:
        if roles_of_rds:
            connection.execute("CREATE ROLE rds_iam")
            connection.execute(f"GRANT rds_iam TO {OWNER} WITH ADMIN OPTION")
        connection.execute(f"SET ROLE {OWNER}")
        connection.execute(text)
        connection.execute(text)
        granted = connection.execute(
            "SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
            "  JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = 'openreserve_app'"
        ).fetchall()
        connection.rollback()

    assert granted == [(role,) for role in roles_of_rds]
