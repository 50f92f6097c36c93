"""Fixtures of all tests: an own Postgres, Redis, SQS and Secrets Manager."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import hypothesis
import psycopg
import pytest
import redis

from functions.stock import app as stock_app
from infra.local import aws
from infra.local.aws import Aws
from infra.local.template.intrinsics import ACCOUNT, REGION
from openreserve.cache import connection as cache_connection
from openreserve.postgres import connection as postgres_connection
from openreserve.postgres.migrations import migrate
from openreserve.runtime import settings, telemetry
from openreserve.webhooks import dispatch, endpoints, queue
from tests.support import containers, pooler
from tests.support.postgres_tap import Wire, tapped
from tests.support.receiver import Receiver, receiving


@dataclass(frozen=True)
class Engine:
    """The URLs of the engine under test, and SQL access to its database."""

    database_url: str
    """The URL of the functions: through a tap and, with --pooled, through PgBouncer."""
    owner_url: str
    redis_url: str
    direct_url: str = ""
    """Postgres without tap and pool, as user openreserve_app."""
    state: Path = Path()
    """The data directory."""
    wire: Wire = field(default_factory=Wire)
    """The tap between the functions and Postgres."""

    def sql(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement as the owner of the schema."""
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def drift(self) -> list[tuple[Any, ...]]:
        """Resources whose counters disagree with the reservations. There must be none."""
        return self.sql("""
            SELECT r.resource_id, r.total_stock, r.available_stock, sum(i.quantity)
              FROM openreserve.resources r
              LEFT JOIN (openreserve.reservation_items i
                         JOIN openreserve.reservations v
                           ON v.token = i.token AND v.status IN ('HELD', 'COMMITTED'))
                ON i.resource_id = r.resource_id
             GROUP BY r.resource_id
            HAVING r.total_stock <> r.available_stock + coalesce(sum(i.quantity), 0)
             UNION ALL
            SELECT i.resource_id, null, null, i.quantity
              FROM openreserve.reservation_items i
              JOIN openreserve.reservations v ON v.token = i.token
             WHERE i.held_until IS DISTINCT FROM
                   CASE WHEN v.status = 'HELD' THEN v.expires_at END
                OR i.returned IS DISTINCT FROM (v.status IN ('RELEASED', 'EXPIRED', 'CANCELLED'))
             UNION ALL
            SELECT r.resource_id, r.event_sequence, max(e.sequence), count(e.sequence)
              FROM openreserve.resources r LEFT JOIN openreserve.events e USING (resource_id)
             GROUP BY r.resource_id
            HAVING r.event_sequence <> count(e.sequence)
                OR r.event_sequence <> coalesce(max(e.sequence), 0)""")


POOL_SIZE = 5

# The tests must also pass on a slow machine.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


def pytest_configure() -> None:
    """Restore the default SIGINT handler: a shell starts background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pooled",
        action="store_true",
        help=f"the functions reach Postgres through PgBouncer, as one of {POOL_SIZE} backends",
    )
    parser.addoption(
        "--require-openapi-tools",
        action="store_true",
        help="a test of the OpenAPI document fails, and is not skipped, if its tool is missing",
    )


SHOWN = "shown"
"""The user property that is printed in the summary, also from worker processes."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SHOWN:
                terminalreporter.write_line(str(text))


@pytest.fixture(scope="session")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
    set_by_hand: dict[str, str],
) -> Iterator[Engine]:
    state = tmp_path_factory.mktemp("state")
    with (
        pytest.MonkeyPatch.context() as patch,
        containers.servers(state, set_by_hand) as (postgres, own_redis),
        _pool(postgres.app_url, state, pytestconfig) as functions_url,
        tapped(functions_url, keeps=False) as wire,
    ):
        if not own_redis.url:
            pytest.exit("the tests need redis-server or valkey-server on the PATH", returncode=2)
        patch.setenv("POWERTOOLS_SERVICE_NAME", "openreserve")
        migrate(postgres.migration_url)
        yield Engine(wire.url, postgres.migration_url, own_redis.url, postgres.app_url, state, wire)
        assert wire.told_faults() == [], "RDS Proxy would not pool this"


@contextmanager
def _pool(postgres_url: str, state: Path, config: pytest.Config) -> Iterator[str]:
    """The URL of Postgres for the functions: its own, or that of a pool."""
    if not config.getoption("--pooled"):
        yield postgres_url
        return
    if pooler.program() is None:
        pytest.exit("--pooled needs pgbouncer", returncode=2)
    with pooler.pooled(postgres_url, state, size=POOL_SIZE) as pool:
        yield pool.url


@pytest.fixture(scope="session")
def set_by_hand() -> dict[str, str]:
    """The servers configured in the environment of the developer."""
    return {name: os.environ[name] for name in containers.GIVEN if name in os.environ}


@pytest.fixture(scope="session", autouse=True)
def _without_local_configuration(set_by_hand: dict[str, str]) -> Iterator[None]:
    """Remove the developer's configuration: tests use it only on request."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            *set_by_hand,
            "DATABASE_AUTH",
            "MIGRATION_SECRET_ARN",
            "REDIS_AUTH",
        ):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def engine(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine in this process, with Redis."""
    yield from _configured(servers, monkeypatch)


@pytest.fixture
def engine_without_redis(servers: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine in this process, without Redis."""
    yield from _configured(replace(servers, redis_url=""), monkeypatch)


def _configured(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DATABASE_URL", engine.database_url)
    monkeypatch.setenv("REDIS_URL", engine.redis_url)
    monkeypatch.setenv("HEALTH_CACHE_MS", "0")
    forget()
    yield engine
    forget()
    assert engine.wire.told_faults() == [], "RDS Proxy would not pool this"


def forget() -> None:
    """Drop connections and caches: the next call reads the environment, as a cold start does."""
    postgres_connection.disconnect()
    cache_connection.disconnect()
    stock_app._health.until = 0
    for remembered in (
        settings.settings,
        telemetry._logger,
        queue._sqs,
        endpoints._manager,
        endpoints._known,
        dispatch._slow,
    ):
        remembered.cache_clear()


def beside(call: Callable[[], object]) -> threading.Thread:
    """Start a thread for the call. It closes its own connections."""

    def run() -> None:
        try:
            call()
        finally:
            postgres_connection.disconnect()
            cache_connection.disconnect()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def ask_redis(*command: str) -> Any:
    """Send a command to Redis over a separate connection."""
    with redis.Redis.from_url(settings.settings().redis_url) as client:
        return client.execute_command(*command)


@pytest.fixture(scope="session")
def own_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """SQS and Secrets Manager, shared by the session."""
    with aws.server(tmp_path_factory.mktemp("aws")) as server:
        server.wait_until_up()
        yield server


@dataclass(frozen=True)
class Queues:
    """The queues of one test, initially empty."""

    sqs: Any
    url: str
    retry_url: str
    dead_url: str

    def messages(self, *, dead: bool = False) -> list[Any]:
        """Remove and return the pending messages, or the dead letters."""
        urls = [self.dead_url] if dead else [self.url, self.retry_url]
        return [message for url in urls for message in self.taken(url)]

    def taken(self, url: str) -> list[Any]:
        """Remove and return the messages of one queue."""
        messages: list[Any] = []
        while batch := self.received(url):
            for message in batch:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            messages += batch
        return messages

    def received(self, url: str) -> list[Any]:
        """Receive at most ten messages, as the event source mapping does."""
        answer = self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", ()))


def delete_queues(aws: Aws) -> None:
    """Delete all queues: the next test may create queues with the same names."""
    sqs = aws.client("sqs")
    for url in sqs.list_queues().get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def queues(own_aws: Aws, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    """Empty queues and endpoints for the functions in this process."""
    sqs = own_aws.client("sqs")
    dead_url = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-dead"
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 100})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "180"}
    url, retry_url = (
        sqs.create_queue(QueueName=each, Attributes=attributes)["QueueUrl"]
        for each in (name, f"{name}-retry")
    )
    variables = {
        **own_aws.variables,
        "WEBHOOK_QUEUE_URL": url,
        "WEBHOOK_RETRY_QUEUE_URL": retry_url,
        "DEAD_LETTER_QUEUE_URL": dead_url,
        "WEBHOOK_SECRETS_PREFIX": f"{name}/",
        "WEBHOOK_RETRY_SECONDS": "5,300",
        "WEBHOOK_DEVELOPMENT": "1",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    forget()
    yield Queues(sqs, url, retry_url, dead_url)
    forget()


@pytest.fixture
def immediate_retries(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make failed deliveries visible again immediately."""
    assert queues
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "0,0")
    forget()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def name() -> str:
    """A unique name: a resource id, or a prefix of keys."""
    return f"ps5-{uuid4().hex[:12]}"
