"""Execution environments behave as on Lambda, also when the function fails."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local.lambda_pool import Failed, Overloaded, Pool, TimedOut
from infra.local.template.model import Function

FUNCTIONS = Path(__file__).parent / "functions"

Start = Callable[..., AbstractAsyncContextManager[Pool]]


@pytest.fixture(autouse=True, params=["awslambdaric", "openreserve"])
def _runtime_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime interface client of AWS, and the one for systems without wheels of it."""
    if request.param == "awslambdaric":
        pytest.importorskip("awslambdaric", reason="awslambdaric has wheels for Linux alone")
    monkeypatch.setenv("RUNTIME_CLIENT", request.param)


@pytest.fixture
def lines() -> list[str]:
    """The log lines of the functions."""
    return []


@pytest.fixture
def start(lines: list[str]) -> Start:
    @asynccontextmanager
    async def start(
        code: str = "misbehaving",
        *,
        environments: int = 2,
        waiting: int = 100,
        timeout_seconds: int = 10,
    ) -> AsyncIterator[Pool]:
        function = Function(
            code, FUNCTIONS / code, "app.handler", timeout_seconds, 128, {"COLOUR": "red"}, (), ()
        )
        pool = Pool(function, environments, waiting, lambda _, line: lines.append(line), {})
        await pool.start()
        try:
            yield pool
        finally:
            await pool.stop()

    return start


async def ask(pool: Pool, **event: Any) -> Any:
    return json.loads(await pool.invoke(json.dumps(event).encode()))


async def test_an_environment_is_reused_and_handles_one_event_at_a_time(start: Start) -> None:
    async with start(environments=4) as pool:
        first = await ask(pool)
        again = await ask(pool)
        both = await asyncio.gather(*(ask(pool, sleep_seconds=1) for _ in range(2)))

    assert again["pid"] == first["pid"]
    assert again["startedAt"] == first["startedAt"]
    assert again["requestId"] != first["requestId"]
    assert both[0]["pid"] != both[1]["pid"]


async def test_events_beyond_the_maximum_of_environments_wait_for_a_free_one(start: Start) -> None:
    async with start(environments=2) as pool:
        answers = await asyncio.gather(*(ask(pool, sleep_seconds=0.05) for _ in range(20)))

    assert len({answer["pid"] for answer in answers}) == 2
    assert len({answer["requestId"] for answer in answers}) == 20


async def test_events_beyond_the_waiting_limit_are_refused_immediately(start: Start) -> None:
    async with start(environments=1, waiting=3) as pool:
        results = await asyncio.gather(*(ask(pool) for _ in range(9)), return_exceptions=True)

    assert sum(isinstance(result, Overloaded) for result in results) == 6
    assert sum(isinstance(result, dict) for result in results) == 3


async def test_an_environment_is_killed_at_the_timeout_and_replaced(start: Start) -> None:
    async with start(environments=1, timeout_seconds=1) as pool:
        first = await ask(pool)
        with pytest.raises(TimedOut):
            await ask(pool, sleep_seconds=60)
        second = await ask(pool)

    assert second["pid"] != first["pid"]
    assert not psutil.pid_exists(first["pid"])


async def test_a_crash_fails_only_the_event_in_progress(start: Start) -> None:
    async with start(environments=2) as pool:
        crash = asyncio.create_task(ask(pool, exit=9))
        others = [asyncio.create_task(ask(pool)) for _ in range(10)]
        with pytest.raises(Failed, match="ended with code 9"):
            await crash
        assert len(await asyncio.gather(*others)) == 10


async def test_killing_an_idle_environment_fails_no_event(start: Start) -> None:
    async with start(environments=1) as pool:
        first = await ask(pool)
        os.kill(first["pid"], 9)
        while sum(pool.states().values()):  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.01)

        assert (await ask(pool))["pid"] != first["pid"]


async def test_an_exception_fails_its_event_and_keeps_the_environment(
    start: Start, lines: list[str]
) -> None:
    async with start(environments=1) as pool:
        first = await ask(pool)
        with pytest.raises(Failed, match="ValueError: no such luck"):
            await ask(pool, **{"raise": "no such luck"})
        again = await ask(pool)

    assert again["pid"] == first["pid"]
    assert any("ValueError: no such luck" in line for line in lines)


async def test_a_response_that_is_not_json_fails_its_event_and_keeps_the_environment(
    start: Start,
) -> None:
    async with start(environments=1) as pool:
        first = await ask(pool)
        with pytest.raises(Failed, match="not JSON serializable"):
            await ask(pool, answer="a set")
        again = await ask(pool)

    assert again["pid"] == first["pid"]


async def test_a_response_above_the_limit_of_lambda_fails_its_event(start: Start) -> None:
    async with start(environments=1) as pool:
        fits = await ask(pool, bytes=6_000_000)
        with pytest.raises(Failed):
            await ask(pool, bytes=6_300_000)

        assert len(fits) == 6_000_000
        assert (await ask(pool))["pid"]


async def test_each_event_of_a_function_that_cannot_start_fails_with_the_init_error(
    start: Start, lines: list[str]
) -> None:
    async with start("broken") as pool:
        for _ in range(2):
            with pytest.raises(Failed, match="this function cannot start"):
                await ask(pool)

    assert any("this function cannot start" in line for line in lines)


async def test_a_function_has_the_variables_of_lambda_and_none_of_the_host(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")
    async with start(timeout_seconds=7) as pool:
        answer = await ask(pool)

    environment = answer["environment"]
    assert environment["COLOUR"] == "red"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "misbehaving"
    assert environment["LAMBDA_TASK_ROOT"] == str(FUNCTIONS / "misbehaving")
    assert "SECRET_OF_THIS_MACHINE" not in environment
    assert 6_000 < answer["remainingMs"] <= 7_000
    assert (answer["functionName"], answer["memoryMb"]) == ("misbehaving", "128")


async def test_each_event_has_its_own_x_ray_trace_id(start: Start) -> None:
    async with start(environments=1) as pool:
        traces = [(await ask(pool))["environment"]["_X_AMZN_TRACE_ID"] for _ in range(2)]

    for trace in traces:
        assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Sampled=0", trace)
    assert traces[0] != traces[1]


async def test_a_long_log_line_is_not_truncated(start: Start, lines: list[str]) -> None:
    async with start() as pool:
        await ask(pool, say="x" * 200_000)
        await asyncio.sleep(0.2)

    assert max(map(len, lines)) == 200_000


async def test_stopping_leaves_no_process_behind(start: Start) -> None:
    async with start(environments=3) as pool:
        answers = await asyncio.gather(*(ask(pool, sleep_seconds=0.2) for _ in range(3)))

    assert not any(psutil.pid_exists(answer["pid"]) for answer in answers)
