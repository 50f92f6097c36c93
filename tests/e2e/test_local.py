"""`make run`, over HTTP: the whole engine in real Lambda environments."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import psycopg
import pytest

from infra.local.lambdas.environment import environment_variables
from infra.local.template.model import Function
from openreserve.postgres.migrations import migrate
from tests.conftest import Engine
from tests.e2e.runtime import ROOT, Runtime, free_port, started
from tests.support.handlers import Reply
from tests.support.postgres_tap import tapped

INTERNAL = '{"message":"Internal Server Error"}'
"""The response of API Gateway for a failed invocation."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime


async def all_at_once(runtime: Runtime, resource_id: str, keys: list[str]) -> list[Reply]:
    """One buyer per key, each with its own connection, all concurrently."""

    async def buy(session: aiohttp.ClientSession, key: str) -> Reply:
        body = {"resourceId": resource_id, "quantity": 1}
        headers = {"Idempotency-Key": key}
        url = f"{runtime.url}/api/v1/reserve"
        async with session.post(url, json=body, headers=headers) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.text())

    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return await asyncio.gather(*(buy(session, key) for key in keys))


def conserved(runtime: Runtime, resource_id: str) -> dict[str, int]:
    """The stock of the resource. Asserts that no unit was lost or created."""
    stock = runtime.stock(resource_id)
    assert stock["totalStock"] == (
        stock["availableStock"] + stock["heldStock"] + stock["committedStock"]
    )
    assert min(stock["availableStock"], stock["heldStock"], stock["committedStock"]) >= 0
    return {state: stock[f"{state}Stock"] for state in ("available", "held", "committed")}


def test_two_thousand_buyers_at_once_get_exactly_a_hundred_units(
    runtime: Runtime, name: str
) -> None:
    runtime.set_stock(name, 100)

    replies = asyncio.run(all_at_once(runtime, name, [f"{name}-{n}" for n in range(2_000)]))

    assert Counter((reply.status, reply.code) for reply in replies) == {
        (200, "ok"): 100,
        (409, "out_of_stock"): 1_900,
    }
    assert conserved(runtime, name) == {"available": 0, "held": 100, "committed": 0}


def test_repeated_requests_of_every_tenth_buyer_create_no_extra_holds(
    runtime: Runtime, name: str
) -> None:
    runtime.set_stock(name, 100)
    keys = [f"{name}-{n}" for n in range(2_000)] + [f"{name}-{n}" for n in range(0, 2_000, 10)]

    replies = asyncio.run(all_at_once(runtime, name, keys))

    answers: dict[str, set[str]] = {}
    for key, reply in zip(keys, replies, strict=True):
        assert reply.code in ("ok", "out_of_stock")
        if reply.status == 200:
            answers.setdefault(key, set()).add(reply.text)
    assert len(answers) == 100
    assert all(len(texts) == 1 for texts in answers.values())
    assert conserved(runtime, name) == {"available": 0, "held": 100, "committed": 0}


def test_fifty_concurrent_requests_with_one_key_get_the_same_response(
    runtime: Runtime, name: str
) -> None:
    runtime.set_stock(name, 100)

    replies = asyncio.run(all_at_once(runtime, name, [name] * 50))

    assert {(reply.status, reply.text) for reply in replies} == {(200, replies[0].text)}
    assert conserved(runtime, name) == {"available": 99, "held": 1, "committed": 0}
    assert runtime.reserve(name, name, quantity=2).code == "idempotency_key_reused"


@pytest.mark.parametrize("redis", ["with Redis", "without Redis"])
def test_a_function_killed_between_commit_and_response_leaves_one_hold(
    servers: Engine, tmp_path: Path, name: str, redis: str
) -> None:
    with tapped(servers.database_url) as wire:
        variables = {
            "DATABASE_URL": wire.url,
            "MIGRATION_URL": servers.owner_url,
            "REDIS_URL": servers.redis_url if redis == "with Redis" else "",
        }
        with started(tmp_path, variables=variables) as runtime:
            runtime.set_stock(name, 5)
            first = runtime.reserve(name, f"{name}-before")  # the environment is warm now
            assert first.status == 200
            wire.lose_answer_to = b"CALL openreserve.reserve"
            replies: list[Reply] = []
            buyer = threading.Thread(target=lambda: replies.append(runtime.reserve(name, name)))
            buyer.start()
            assert wire.lost.wait(10)
            wait_for_hold(servers, name)
            for environment in runtime.environments("ReserveFunction"):
                environment.kill()
            buyer.join()
            wire.lose_answer_to = b""
            wire.lost.clear()

            retried = runtime.reserve(name, name)

            assert (replies[0].status, replies[0].text) == (500, INTERNAL)
            assert retried.status == 200
            assert retried.headers["idempotent-replayed"] == "true"
            assert runtime.reserve(name, name).text == retried.text
            assert conserved(runtime, name) == {"available": 3, "held": 2, "committed": 0}


def wait_for_hold(engine: Engine, key: str) -> None:
    deadline = time.monotonic() + 10
    statement = "SELECT 1 FROM openreserve.idempotency_keys WHERE idempotency_key = %s"
    while not engine.sql(statement, key):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_redis_killed_under_load_costs_no_request(tmp_path: Path, name: str) -> None:
    with started(tmp_path) as runtime:
        runtime.set_stock(name, 300)
        redis = psutil.Process(int((tmp_path / "redis.pid").read_text()))
        killer = threading.Timer(1.0, redis.kill)
        killer.start()

        keys = [f"{name}-{n}" for n in range(600)]
        replies = asyncio.run(all_at_once(runtime, name, keys))
        killer.join()
        # A machine that stalls for a second while one transaction holds the row lock fails the
        # waiting requests, one per environment, with 503. That is unrelated to Redis.
        waited = [
            key for key, reply in zip(keys, replies, strict=True) if reply.code == "contention"
        ]
        assert len(waited) < 8, "there are eight environments"
        replies = [reply for reply in replies if reply.code != "contention"]
        replies += [runtime.reserve(name, key) for key in waited]
        after = runtime.reserve(name, f"{name}-after")

        codes = Counter(reply.code for reply in replies)
        assert codes == {"ok": 300, "out_of_stock": 300}
        assert after.code == "out_of_stock"
        assert runtime.call("GET", "/health").json["redis"] == "unavailable"
        assert conserved(runtime, name) == {"available": 0, "held": 300, "committed": 0}


def test_an_environment_killed_under_load_fails_only_its_current_request(
    tmp_path: Path, name: str
) -> None:
    with started(tmp_path, "--environments", "4") as runtime:
        runtime.set_stock(name, 1_000)
        runtime.reserve(name, f"{name}-warm")

        def kill_some() -> None:
            for _ in range(3):
                time.sleep(0.4)
                for environment in runtime.environments("ReserveFunction")[:1]:
                    environment.kill()

        killer = threading.Thread(target=kill_some)
        killer.start()
        keys = [f"{name}-{n}" for n in range(400)]
        replies = asyncio.run(all_at_once(runtime, name, keys))
        killer.join()

        lost = [reply for reply in replies if reply.status != 200]
        assert {reply.text for reply in lost} <= {INTERNAL}
        assert len(lost) <= 3
        retried = [runtime.reserve(name, key) for key in keys]
        assert {reply.status for reply in retried} == {200}
        assert conserved(runtime, name) == {"available": 599, "held": 401, "committed": 0}


def test_the_schedules_of_the_template_expire_holds_promptly(runtime: Runtime, name: str) -> None:
    """A hold that could not be recorded in Redis in time is expired within a minute."""
    runtime.set_stock(name, 20)
    socket_folder = (runtime.state / "postgres/postmaster.pid").read_text().splitlines()[4]
    owner_url = f"postgresql://openreserve_owner@/openreserve?host={socket_folder}"
    engine = Engine("", owner_url, "")
    for attempt in range(3):
        tokens = [hold_briefly(runtime, name, f"{name}-{attempt}-{n}") for n in range(20)]
        deadline = time.monotonic() + 90
        while len(lags := closed_lags_seconds(engine, tokens)) < len(tokens):
            assert time.monotonic() < deadline
            time.sleep(0.1)

        assert min(lags) >= 0, "never early"
        assert conserved(runtime, name) == {"available": 20, "held": 0, "committed": 0}
        if max(lags) < 5:
            return
    pytest.fail("the prompt path was never prompt")


def hold_briefly(runtime: Runtime, resource_id: str, key: str) -> str:
    body = {"resourceId": resource_id, "quantity": 1, "ttlSeconds": 2}
    reply = runtime.call("POST", "/api/v1/reserve", body, {"Idempotency-Key": key})
    return str(reply.json["token"])


def closed_lags_seconds(engine: Engine, tokens: list[str]) -> list[float]:
    """The expiry lag of each hold that has expired."""
    rows = engine.sql(
        "SELECT extract(epoch FROM settled_at - expires_at)::float FROM openreserve.reservations"
        " WHERE token = ANY (%s::uuid[]) AND status = 'EXPIRED'",
        tokens,
    )
    return [lag for (lag,) in rows]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/api/v1/reserve", 405, "method_not_allowed"),
        ("GET", "/api/v1/commit", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/resources/x", 405, "method_not_allowed"),
        ("GET", "/api/v1/nothing", 404, "route_not_found"),
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/api/v1/resources/a%2Fb", 404, "resource_not_found"),
        ("GET", "/api/v1/resources/%7B%7D", 404, "resource_not_found"),
        ("GET", "/api/v1/resources%2Fx", 404, "route_not_found"),
        ("PUT", "/api/v1/resources%2Fx", 405, "method_not_allowed"),
        ("POST", "/dashboard", 405, "method_not_allowed"),
        ("DELETE", "/metrics", 405, "method_not_allowed"),
        ("POST", "/docs/swagger/css/swagger-ui.css", 405, "method_not_allowed"),
        ("GET", "/docs/swagger/css/nothing.css", 404, "route_not_found"),
        ("GET", "/dashboard/..%2Findex.html", 404, "route_not_found"),
        ("GET", "/api/v1/resources/a%00b", 404, "resource_not_found"),
        ("GET", "/api/v1/reservations/x", 404, "reservation_not_found"),
    ],
)
def test_unknown_routes_and_methods_return_a_problem(
    runtime: Runtime, method: str, path: str, status: int, code: str
) -> None:
    reply = runtime.call(method, path)

    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"].partition(";")[0] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "code", "requestId"} <= set(reply.json)
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "body_missing"),
        (b"{", 400, "body_malformed"),
        (b'{"resourceId": "\xff", "quantity": 1}', 400, "body_malformed"),
        (b'{"resourceId": "a\\u0000b", "quantity": 1}', 400, "body_invalid"),
        (json.dumps({"note": "x" * 2_000_000}).encode(), 413, "body_too_large"),
    ],
)
def test_the_function_rejects_invalid_bodies(
    runtime: Runtime, body: bytes, status: int, code: str
) -> None:
    reply = runtime.call("POST", "/api/v1/reserve", body, {"Idempotency-Key": "k"})

    assert (reply.status, reply.code) == (status, code)


def test_a_body_above_the_quota_of_api_gateway_gets_its_413_response(runtime: Runtime) -> None:
    reply = runtime.call("POST", "/api/v1/reserve", b" " * 11_000_000)

    assert (reply.status, reply.text) == (413, '{"message":"Request Entity Too Large"}')


def test_ids_with_braces_are_created_reserved_and_read(runtime: Runtime, name: str) -> None:
    resource_id = f"{name}{{y}}"
    created = runtime.set_stock(resource_id, 2)
    held = runtime.reserve(resource_id, name)

    assert (created.status, held.status) == (201, 200)
    assert runtime.stock(f"{name}%7By%7D")["availableStock"] == 1
    assert runtime.stock(f"{name}{{y}}")["resourceId"] == resource_id


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://["])
def test_a_page_of_another_origin_is_refused_with_a_problem(runtime: Runtime, origin: str) -> None:
    reply = runtime.call("POST", "/dashboard/black-friday", headers={"Origin": origin})

    assert (reply.status, reply.code) == (403, "origin_not_allowed")
    assert reply.json["instance"] == "/dashboard/black-friday"
    assert reply.json["requestId"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("page", ["/dashboard", "/docs", "/openapi.json", "/metrics"])
def test_a_page_answers_head_as_get_without_a_body(runtime: Runtime, page: str) -> None:
    head, get = runtime.call("HEAD", page), runtime.call("GET", page)

    assert (head.status, head.text) == (200, "")
    assert get.status == 200
    assert head.headers["content-type"] == get.headers["content-type"]


def test_names_with_spaces_and_umlauts_can_be_read_over_http(runtime: Runtime, name: str) -> None:
    runtime.set_stock(f"{name} Käse %", 3)

    stock = runtime.stock(f"{name}%20K%C3%A4se%20%25")

    assert (stock["resourceId"], stock["totalStock"]) == (f"{name} Käse %", 3)
    found = runtime.call("GET", f"/api/v1/resources?prefix={name}%20K%C3%A4se%20%25").json
    assert [resource["totalStock"] for resource in found["resources"]] == [3]


def test_the_runtime_serves_the_api_documentation(runtime: Runtime) -> None:
    document = runtime.call("GET", "/openapi.json").json
    page = runtime.call("GET", "/docs").text

    assert document["openapi"].startswith("3.1")
    assert "/openapi.json" in page
    assert "https://" not in page, "all files are served locally"
    for part in ("css/swagger-ui.css", "js/swagger-ui-bundle.js"):
        assert f"/docs/swagger/{part}" in page
        assert runtime.call("GET", f"/docs/swagger/{part}").status == 200


def test_each_request_is_one_line_that_keeps_its_token_secret(runtime: Runtime, name: str) -> None:
    runtime.set_stock(name, 1)
    token = runtime.reserve(name, name).json["token"]
    for spelling in (token, token.replace("-", ""), token.upper()):
        assert runtime.call("GET", f"/api/v1/reservations/{spelling}").status == 200
    runtime.reserve(name, f"{name}-late")
    time.sleep(0.3)

    for spelling in (token, token.replace("-", ""), token.upper()):
        assert not any(spelling in line for line in runtime.lines)
    assert any(f"GET /api/v1/reservations/{token[:8]}…" in line for line in runtime.lines)
    assert any(
        "  409  POST /api/v1/reserve  " in line and line.endswith("out_of_stock")
        for line in runtime.lines
    )


def test_data_survives_a_restart_and_ctrl_c_leaves_nothing_running(
    tmp_path: Path, name: str
) -> None:
    with started(tmp_path) as first:
        first.set_stock(name, 5)
        reply = first.reserve(name, name)
        family = psutil.Process(first.process.pid).children(recursive=True)
        postgres = psutil.Process(
            int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        assert first.stop(signal.SIGINT) == 0
    assert not [process for process in [*family, postgres] if alive(process)]

    with started(tmp_path) as second:
        assert second.reserve(name, name).text == reply.text
        assert conserved(second, name) == {"available": 4, "held": 1, "committed": 0}


def test_the_engine_runs_under_the_runtime_client_of_systems_without_awslambdaric(
    tmp_path: Path, name: str
) -> None:
    with started(tmp_path, variables={"RUNTIME_CLIENT": "openreserve"}) as runtime:
        runtime.set_stock(name, 3)
        token = runtime.reserve(name, name).json["token"]
        replayed = runtime.reserve(name, name)
        other = runtime.reserve(name, f"{name}-other").json["token"]
        (process, *_) = runtime.environments("ReserveFunction")

        assert replayed.headers["idempotent-replayed"] == "true"
        assert (
            runtime.call("POST", "/api/v1/commit", {"token": token}).json["status"] == "COMMITTED"
        )
        assert (
            runtime.call("POST", "/api/v1/release", {"token": other}).json["status"] == "RELEASED"
        )
        assert conserved(runtime, name) == {"available": 2, "held": 0, "committed": 1}
        assert not [part for part in process.cmdline() if "awslambdaric" in part]


@pytest.fixture
def _sigint_ignored() -> Iterator[None]:
    """As in a process that a script started with `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint_ignored")
def test_a_runtime_that_inherits_an_ignored_sigint_is_stopped_by_it(tmp_path: Path) -> None:
    with started(tmp_path, variables={"REDIS_URL": ""}) as runtime:
        assert runtime.stop(signal.SIGINT) == 0


@pytest.mark.usefixtures("_sigint_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_runtime_that_is_stopped_while_it_starts_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local", "--port", str(free_port()), "--state", str(state)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    family: list[psutil.Process] = []
    while not (state / "aws.pid").exists() or not family:
        assert process.poll() is None, process.communicate()
        family = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)

    assert (process.communicate(timeout=60)[0], process.returncode) == (b"", 0)
    assert not [child for child in family if alive(child)]


def test_a_runtime_that_was_killed_can_be_started_again(tmp_path: Path, name: str) -> None:
    with started(tmp_path) as first:
        first.set_stock(name, 5)
        first.stop(signal.SIGKILL)

    with started(tmp_path) as second:
        assert second.stock(name)["totalStock"] == 5
        postgres = psutil.Process(
            int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        second.stop()
    assert not alive(postgres)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_second_copy_runs_beside_the_first(runtime: Runtime, tmp_path: Path, name: str) -> None:
    with started(tmp_path) as second:
        runtime.set_stock(name, 5)

        assert second.call("GET", f"/api/v1/resources/{name}").code == "resource_not_found"


def test_a_port_in_use_is_reported_in_one_line(runtime: Runtime, tmp_path: Path) -> None:
    port = int(runtime.url.rpartition(":")[2])
    with pytest.raises(AssertionError) as refused, started(tmp_path, port=port):
        pass

    (line,) = str(refused.value).splitlines()
    assert line == (
        f"OpenReserve cannot run: port {port} is in use; stop the process that listens on it,"
        f" or run: make run PORT={port + 1}"
    )


def test_an_unreachable_postgres_is_reported_in_one_line(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    with pytest.raises(AssertionError) as refused, started(tmp_path, variables=variables):
        pass

    (line,) = str(refused.value).splitlines()
    assert line.startswith("OpenReserve cannot run: Postgres at DATABASE_URL: ")


def test_a_failed_migration_is_reported_in_one_line(
    servers: Engine, tmp_path: Path, name: str
) -> None:
    admin_url = servers.owner_url.replace("openreserve_owner@/openreserve", "postgres@/postgres")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" OWNER openreserve_owner'.encode())
    url = servers.owner_url.replace("@/openreserve", f"@/{name}")
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE openreserve.migrations SET sha256 = 'other' WHERE number = 1")
    variables = {"DATABASE_URL": url, "MIGRATION_URL": url}

    with pytest.raises(AssertionError) as refused, started(tmp_path, variables=variables):
        pass

    *_, line = str(refused.value).splitlines()
    assert line.startswith("OpenReserve cannot run: MigrationChanged: 0001_roles.sql was applied")
    assert line.endswith("start with a new one (make run: delete .openreserve/)")


def test_data_of_another_postgres_version_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(AssertionError) as refused, started(tmp_path):
        pass

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"OpenReserve cannot run: {tmp_path / 'postgres'} is of PostgreSQL 12")


def test_a_state_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    state = tmp_path / "file" / "state"
    state.parent.touch()
    with pytest.raises(AssertionError) as refused, started(state):
        pass

    assert str(refused.value) == (
        f"OpenReserve cannot run: cannot write to {state}: Not a directory"
    )


def test_a_state_folder_in_use_is_reported_in_one_line(runtime: Runtime) -> None:
    with pytest.raises(AssertionError) as refused, started(runtime.state, port=free_port()):
        pass

    assert str(refused.value) == (
        f"OpenReserve cannot run: {runtime.state} is in use by another process"
    )


def test_the_option_json_prints_only_the_lines_of_the_functions(
    servers: Engine, tmp_path: Path, name: str
) -> None:
    """One line per outcome."""
    port = free_port()
    variables = {"DATABASE_URL": servers.database_url, "MIGRATION_URL": servers.owner_url}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "infra.local", "--json"),
            *("--port", str(port), "--state", str(tmp_path)),
        ],
        env=os.environ | variables | {"REDIS_URL": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    runtime = Runtime(f"http://127.0.0.1:{port}", tmp_path, process)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            runtime.set_stock(name, 1)
            break
        except OSError:
            time.sleep(0.1)
    runtime.stop()
    assert process.stdout is not None
    entries = [json.loads(line) for line in process.stdout]
    process.stdout.close()

    assert [entry["outcome"] for entry in entries if "route" in entry] == ["ok"]


def test_functions_get_only_environment_variables_that_lambda_sets() -> None:
    function = Function("F", Path(), "app.handler", 1, 1, {}, (), ())

    assert set(environment_variables(function, "F#1", 1)) <= {
        "HOME",
        "LANG",
        "PATH",
        "TZ",
        "_HANDLER",
        "LAMBDA_TASK_ROOT",
        "AWS_REGION",
        *(f"AWS_LAMBDA_{name}" for name in ("RUNTIME_API", "FUNCTION_NAME", "FUNCTION_VERSION")),
        *(f"AWS_LAMBDA_{name}" for name in ("FUNCTION_MEMORY_SIZE", "INITIALIZATION_TYPE")),
        *(f"AWS_LAMBDA_{name}" for name in ("LOG_GROUP_NAME", "LOG_STREAM_NAME")),
    }
