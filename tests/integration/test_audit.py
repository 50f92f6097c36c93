"""`openreserve verify --stage` and `repair --stage`: AuditFunction on a direct connection."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import psycopg
import pytest

from functions.audit import app
from openreserve_client.cli import stages
from openreserve_client.cli.audit_results import AuditFailed
from tests.conftest import Engine, forget
from tests.support.handlers import EVENTS, available, hold, set_stock
from tests.support.postgres_tap import Wire, tapped
from tests.support.terminal import Said, in_a_pipe

STACK_RESOURCE = """
<DescribeStackResourceResponse><DescribeStackResourceResult><StackResourceDetail>
<PhysicalResourceId>openreserve-dev-AuditFunction-1</PhysicalResourceId>
</StackResourceDetail></DescribeStackResourceResult></DescribeStackResourceResponse>"""
NO_STACK = """
<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>
<Message>Stack 'openreserve-nowhere' does not exist</Message></Error></ErrorResponse>"""


@dataclass
class Context:
    seconds: float = 900

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1_000)


@dataclass
class Account:
    """A fake AWS account with the stack of stage dev. Its AuditFunction runs in this process."""

    url: str = ""
    context: Context = field(default_factory=Context)
    events: list[Any] = field(default_factory=list)

    def run(self, *arguments: str) -> Said:
        variables = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/nowhere",
        }
        return in_a_pipe(*arguments, variables=variables)

    def invoke(self, event: Any) -> tuple[dict[str, str], Any]:
        self.events.append(event)
        try:
            return {}, app.handler(event, self.context)
        except Exception as failure:  # noqa: BLE001 - as Lambda does
            return {"x-amz-function-error": "Unhandled"}, {"errorMessage": str(failure)}


@pytest.fixture
def direct(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The tapped Postgres connection of AuditFunction."""
    with tapped(engine.owner_url) as wire:
        monkeypatch.setenv("MIGRATION_URL", wire.url)
        monkeypatch.setenv("DATABASE_URL", engine.database_url)
        forget()
        yield wire


@pytest.fixture
def account(direct: Wire) -> Iterator[Account]:
    assert direct
    account = Account()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
            headers: dict[str, str] = {}
            status, answer = 200, STACK_RESOURCE
            if self.path.endswith("/openreserve-dev-AuditFunction-1/invocations"):
                headers, payload = account.invoke(json.loads(body))
                answer = json.dumps(payload)
            elif parse_qs(body)["StackName"] != ["openreserve-dev"]:
                status, answer = 400, NO_STACK
            else:
                assert parse_qs(body)["LogicalResourceId"] == ["AuditFunction"]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account.url = f"http://127.0.0.1:{server.server_port}"
        yield account
        server.shutdown()


def broken(engine: Engine, name: str, difference: int = 1) -> None:
    """A resource with 5 units, one of them held, and a wrong counter."""
    set_stock(name, 5)
    hold((name, 1))
    engine.sql(
        "UPDATE openreserve.resources SET available_stock = available_stock - %s"
        " WHERE resource_id = %s",
        difference,
        name,
    )


def sample(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_a_check_is_one_read_only_snapshot_and_every_statement_has_a_timeout(
    direct: Wire, name: str
) -> None:
    set_stock(name, 1)

    result = app.handler(sample("verify"), Context())

    texts = [text for _, text in direct.statements]
    assert texts[:2] == [
        "BEGIN",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ]
    assert ["set_config('statement_timeout'" in text for text in texts[2:-1]] == [
        True,
        False,
        True,
        False,
    ]
    assert texts[-1] == "COMMIT"
    assert (result["drifting"], result["drift"]) == (0, [])


def test_drift_of_a_stage_is_reported_and_repaired_with_a_reason(
    account: Account, engine: Engine, name: str
) -> None:
    broken(engine, name)

    drift = account.run("verify", "--stage", "dev", "--json")
    dry = account.run("repair", "--stage", "dev")
    assert available(name) == 3
    repaired = account.run("repair", "--stage", "dev", "--apply", "--reason", "a test broke it")
    clean = account.run("verify", "--stage", "dev")

    assert drift.code == 1
    assert [row["resourceId"] for row in json.loads(drift.out)["drift"]] == [name]
    assert (dry.code, dry.out) == (1, f"{name}: would set available 3 to 4\n")
    assert (repaired.code, repaired.out) == (0, f"{name}: changed available by +1\n")
    assert clean.code == 0
    assert available(name) == 4
    assert engine.sql(
        "SELECT difference, reason FROM openreserve.repairs WHERE resource_id = %s", name
    ) == [(1, "a test broke it")]
    assert [sorted(event) for event in account.events] == [
        ["timeoutSeconds"],
        ["timeoutSeconds"],
        ["timeoutSeconds"],
        ["reason", "resourceIds", "timeoutSeconds"],
        ["timeoutSeconds"],
    ]


def test_nothing_is_repaired_without_apply_and_a_reason(account: Account, direct: Wire) -> None:
    said = account.run("repair", "--stage", "dev", "--apply")
    with pytest.raises(ValueError, match="a repair needs a reason"):
        app.handler({"resourceIds": ["a"], "reason": ""}, Context())

    assert said.code == 2
    assert "--apply needs a --reason" in said.err
    assert account.events == []
    assert direct.messages == []


def test_many_repairs_are_sent_in_batches_and_a_failure_reports_the_completed_ones(
    account: Account, engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "REPAIRS_PER_CALL", 2)
    for variable, value in {
        "AWS_ENDPOINT_URL": account.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(variable, value)
    ids = [f"{name}-{number}" for number in range(4)]
    for resource_id in ids:
        broken(engine, resource_id)
    done: list[str] = []
    with psycopg.connect(engine.owner_url) as other:
        other.execute(
            "SELECT FROM openreserve.resources WHERE resource_id = %s FOR UPDATE", [ids[3]]
        )
        with pytest.raises(AuditFailed, match="statement timeout"):
            done.extend(
                resource_id for resource_id, _ in stages.repair("dev", ids, "a test broke it", 2)
            )

    assert done == ids[:3]
    assert [event["resourceIds"] for event in account.events] == [ids[:2], ids[2:]]
    assert [available(resource_id) for resource_id in ids] == [4, 4, 4, 3]
    assert len(list(stages.repair("dev", ids[3:], "once more", 60))) == 1
    assert engine.drift() == []


def test_a_check_ends_before_the_lambda_timeout(
    account: Account, engine: Engine, name: str
) -> None:
    set_stock(name, 1)
    account.context = Context(app.SPARE_SECONDS + 0.3)
    with psycopg.connect(engine.owner_url) as other:
        other.execute("LOCK TABLE openreserve.reservations IN ACCESS EXCLUSIVE MODE")
        said = account.run("verify", "--stage", "dev")

    assert said.code == 2
    assert said.err == (
        "openreserve: could_not_check: canceling statement due to statement timeout\n"
    )


def test_drift_beyond_the_size_of_one_response_is_counted(
    account: Account, engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "DRIFT_MAX", 1)
    broken(engine, f"{name}-1")
    broken(engine, f"{name}-2")

    said = account.run("verify", "--stage", "dev")
    first = account.run("repair", "--stage", "dev", "--apply", "--reason", "a test broke it")
    second = account.run("repair", "--stage", "dev", "--apply", "--reason", "a test broke it")

    assert said.err.startswith("2 of ")
    assert (first.code, second.code) == (1, 0), "something is left after the first"
    assert engine.drift() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--stage", "nowhere"), "Stack 'openreserve-nowhere' does not exist"),
        (("--stage", "dev", "--database-url", "postgresql://x"), "mutually exclusive"),
    ],
)
def test_an_unknown_or_unconfirmed_stage_is_a_clear_error(
    account: Account, arguments: tuple[str, ...], error: str
) -> None:
    said = account.run("verify", *arguments)

    assert said.code == 2
    assert error in said.err
    assert account.events == []


def test_a_failed_function_is_not_reported_as_clean(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_check", lambda _seconds: 1 / 0)

    said = account.run("verify", "--stage", "dev")

    assert (said.code, said.out) == (2, "")
    assert said.err == "openreserve: could_not_check: division by zero\n"
