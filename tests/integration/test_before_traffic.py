"""The deployment hook: a deployment proceeds only when the schema is up to date."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from functions.before_traffic import app
from functions.migrate import app as migrate_app
from openreserve.postgres.sql import migrations
from tests.conftest import Engine, forget
from tests.support.handlers import EVENTS

EVENT = json.loads((EVENTS / "before-traffic.json").read_text())


@dataclass
class FakeAws:
    """Fakes of Lambda with one function, and of CodeDeploy, which records the reported status."""

    function: Callable[[], Any]
    reported: list[dict[str, str]] = field(default_factory=list)
    invoked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, target: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        if target:
            assert target == "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus"
            self.reported.append(json.loads(body))
            return 200, {}, {}
        self.invoked.append(path)
        try:
            return 200, {}, self.function()
        except PermissionError:
            return 403, {"x-amzn-errortype": "AccessDeniedException"}, {"Message": "not allowed"}
        except Exception as failure:  # noqa: BLE001 - as Lambda does
            error = {"errorType": type(failure).__name__, "errorMessage": str(failure)}
            return 200, {"x-amz-function-error": "Unhandled"}, error


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    fake = FakeAws(dict)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            status, headers, answer = fake.answer(
                self.path, self.headers.get("x-amz-target", ""), body
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the client may have timed out
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        for name, value in {
            "AWS_ENDPOINT_URL": fake.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "MIGRATE_FUNCTION_NAME": "openreserve-test-MigrateFunction-1",
        }.items():
            monkeypatch.setenv(name, value)
        _forget_clients()
        yield fake
        _forget_clients()
        server.shutdown()


@pytest.fixture
def empty_url(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database for the migrations."""
    name = sql.Identifier(f"empty_{uuid4().hex[:8]}")
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER openreserve_owner").format(name))
        url = servers.owner_url.replace("@/openreserve", "@/" + name.as_string().strip('"'))
        monkeypatch.setenv("MIGRATION_URL", url)
        forget()
        yield url
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _forget_clients() -> None:
    forget()
    app._lambda.cache_clear()
    app._codedeploy.cache_clear()


def reported(status: str) -> list[dict[str, str]]:
    """The expected call of CodeDeploy for the sample event."""
    return [
        {
            "deploymentId": EVENT["DeploymentId"],
            "lifecycleEventHookExecutionId": EVENT["LifecycleEventHookExecutionId"],
            "status": status,
        }
    ]


def migrated() -> Any:
    return migrate_app.handler({}, None)


def test_a_deployment_proceeds_when_the_schema_is_up_to_date(aws: FakeAws, empty_url: str) -> None:
    aws.function = migrated

    assert app.handler(EVENT, None) == {"status": "Succeeded"}
    assert aws.reported == reported("Succeeded")
    assert aws.invoked == [
        "/2015-03-31/functions/openreserve-test-MigrateFunction-1/invocations",
    ]
    with psycopg.connect(empty_url) as connection:
        applied = connection.execute("SELECT name FROM openreserve.migrations").fetchall()
    assert len(applied) == len(migrations())


def test_the_hooks_of_all_functions_may_run_concurrently(aws: FakeAws, empty_url: str) -> None:
    aws.function = migrated
    asking = [threading.Thread(target=app.handler, args=(EVENT, None)) for _ in range(7)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()

    assert empty_url
    assert aws.reported == 7 * reported("Succeeded")


def test_a_failed_migration_stops_the_deployment_and_changes_nothing(
    aws: FakeAws, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.function = migrated
    broken = [*migrations(), ("9999_broken.sql", b"CREATE TABLE openreserve.x (); SELECT 1 / 0")]
    monkeypatch.setattr("openreserve.postgres.sql.migrations", lambda: broken)

    assert app.handler(EVENT, None) == {"status": "Failed"}
    assert aws.reported == reported("Failed")
    with psycopg.connect(empty_url) as connection:
        schemas = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'openreserve'")
        assert schemas.fetchall() == []


def test_a_deployment_stops_when_the_state_of_the_schema_is_unknown(
    aws: FakeAws,
) -> None:
    def not_allowed() -> None:
        raise PermissionError

    aws.function = not_allowed

    assert app.handler(EVENT, None) == {"status": "Failed"}
    assert aws.reported == reported("Failed")


def test_a_migration_is_not_invoked_twice_because_the_first_may_still_run(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    aws.function = lambda: done.wait(10)
    monkeypatch.setattr(app, "MIGRATE_SECONDS_MAX", 0.2)

    assert app.handler(EVENT, None) == {"status": "Failed"}
    done.set()
    assert len(aws.invoked) == 1


def test_an_unreachable_codedeploy_raises_an_error(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda then retries the hook, and a repeat is harmless."""
    aws.function = dict
    answer = aws.answer

    def refuse(path: str, target: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        return (400, {}, {"__type": "ThrottledException"}) if target else answer(path, "", body)

    monkeypatch.setattr(aws, "answer", refuse)
    with pytest.raises(Exception, match="ThrottledException"):
        app.handler(EVENT, None)


REQUEST = {
    "RequestType": "Create",
    "StackId": "arn:aws:cloudformation:eu-central-1:1:stack/openreserve-dev/1",
    "RequestId": "a-request",
    "LogicalResourceId": "FirstMigration",
    "ResourceType": "Custom::Migration",
}


def first_migration(**event: str) -> dict[str, Any]:
    """The response of the custom resource to CloudFormation."""
    put: list[tuple[dict[str, str], dict[str, Any]]] = []

    class Bucket(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            put.append((dict(self.headers), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/answer?signed"
        app.handler({**REQUEST, "ResponseURL": url, **event}, None)
        server.shutdown()
    ((headers, answer),) = put
    assert headers["Content-Type"] == ""
    assert {name: answer[name] for name in REQUEST.keys() & answer.keys()} == {
        name: REQUEST[name] for name in ("StackId", "RequestId", "LogicalResourceId")
    }
    return answer


def test_a_new_stack_is_migrated_before_anything_is_scheduled(aws: FakeAws, empty_url: str) -> None:
    aws.function = lambda: migrate_app.handler({}, None)

    assert first_migration()["Status"] == "SUCCESS"
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM openreserve.resources").fetchall() == [(0,)]
    assert first_migration()["Status"] == "SUCCESS", "a repeat does nothing"


def test_a_failed_first_migration_fails_the_creation_of_the_stack(aws: FakeAws) -> None:
    aws.function = lambda: 1 / 0

    assert first_migration()["Status"] == "FAILED"
    assert len(aws.invoked) == 1


def test_only_the_first_migration_waits_for_iam_permissions_to_propagate(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RIGHTS_PAUSES_SECONDS", (0.0, 0.0, 0.0))

    def known_with_the_third_try() -> dict[str, Any]:
        if len(aws.invoked) % 3:
            raise PermissionError
        return {"applied": []}

    aws.function = known_with_the_third_try

    assert first_migration()["Status"] == "SUCCESS"
    assert len(aws.invoked) == 3
    assert app.handler(EVENT, None) == {"status": "Failed"}
    assert len(aws.invoked) == 4


def test_permissions_that_never_propagate_fail_the_first_migration(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RIGHTS_PAUSES_SECONDS", (0.0, 0.0, 0.0))

    def never() -> None:
        raise PermissionError

    aws.function = never

    assert first_migration()["Status"] == "FAILED"
    assert len(aws.invoked) == 4


def test_deleting_a_stack_leaves_the_schema_unchanged(aws: FakeAws) -> None:
    assert first_migration(RequestType="Delete")["Status"] == "SUCCESS"
    assert aws.invoked == []
