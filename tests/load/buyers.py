"""The Locust integration of all shapes: buyers that count responses, and the verdict.

Each process counts separately. Locust's workers report their counts to the master, which adds them.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import gevent
import locust.stats
from locust import FastHttpUser, constant, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from tests.load import report
from tests.load.parameters import CannotRun, Parameters
from tests.load.stage import Stage, authority
from tests.load.verdict import Cart, Stock, Tally

SECONDS_MAX = 180
"""Maximum duration of a sale after the last buyer has started."""

NEVER = constant(10**9)
"""Wait time of buyers that buy once. They must not stop: during ramp-up, Locust would replace them
with additional buyers."""

HOLDS_SECONDS_MAX = 30
"""Maximum time to wait until the last holds have expired."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a call. Without one: status 0 and the reason."""

    status: int
    text: str

    @property
    def title(self) -> str:
        """The key of the counters: the status and, for errors, the code."""
        return "200" if self.status == 200 else f"{self.status} {self._code()}"

    @property
    def token(self) -> str:
        return str(json.loads(self.text)["token"])

    def repeats(self, first: "Answer") -> bool:
        """Whether it repeats the first response. A hold has to be identical byte by byte."""
        return self == first if first.status == 200 else self.title == first.title

    def _code(self) -> str:
        try:
            return str(json.loads(self.text)["code"])
        except (ValueError, KeyError, TypeError):
            return self.text[:80] or "no response"


class Buyer(FastHttpUser):
    """Starts at a random time within a second: Locust starts users in batches once a second."""

    abstract = True
    insecure = False
    connection_timeout = network_timeout = 60.0

    tally: ClassVar[Tally] = Tally()
    parameters: ClassVar[Parameters] = Parameters()

    def on_start(self) -> None:
        gevent.sleep(random.uniform(0, min(1, self.parameters.arrival_seconds)))

    def reserve(self, cart: Cart, ttl_seconds: int) -> Answer:
        """Reserve a cart with a new idempotency key. Some requests are repeated, and must match."""
        key = uuid4().hex
        answer = self._reserve("reserve", cart, ttl_seconds, key)
        if answer.status == 200:
            self.tally.held[answer.token] = cart
        elif answer.status == 409:
            self.tally.refused[cart] += 1
        if random.uniform(0, 100) < self.parameters.retry_percent:
            repeat = self._reserve("repeat", cart, ttl_seconds, key)
            if not repeat.repeats(answer):
                self.tally.wrong[
                    f"different response to a repeat: {answer.title}, {repeat.title}"
                ] += 1
        return answer

    def _reserve(self, label: str, cart: Cart, ttl_seconds: int, key: str) -> Answer:
        lines = [
            {"resourceId": resource_id, "quantity": quantity} for resource_id, quantity in cart
        ]
        body = lines[0] if len(lines) == 1 else {"items": lines}
        return self.post(
            label, "reserve", body | {"ttlSeconds": ttl_seconds}, {"Idempotency-Key": key}
        )

    def post(
        self, label: str, verb: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a call, and count its response. The verdict decides whether it is allowed."""
        content = json.dumps(body)
        url = f"{self.host}/api/v1/{verb}"
        with self.client.request(
            "POST",
            url,
            data=content,
            headers={
                "Content-Type": "application/json",
                **(headers or {}),
                **authority()("POST", url, content.encode()),
            },
            catch_response=True,
        ) as response:
            failed = response.request_meta["exception"] if not response.status_code else ""
            answer = Answer(response.status_code, response.text or str(failed))
            response.request_meta["name"] = (
                f"{label} {answer.title}"  # a separate line in the report
            )
            if answer.status in (200, 409, 410):
                response.success()
            else:
                response.failure(answer.title)
        self.tally.answers[f"{label} {answer.title}"] += 1
        return answer


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a load test that differ: its end, and its verdict."""

    judge: Callable[[Tally, Mapping[str, Stock], Parameters], list[str]]
    has_duration: bool = False  # otherwise it ends when all buyers have finished
    holds_expire: bool = False  # otherwise they outlive the run


def attach(shape: Shape) -> None:
    """Register the Locust hooks that end the run, and set the exit code to the verdict."""
    locust.stats.PERCENTILES_TO_CHART = report.PERCENTILES

    def start(environment: Environment, **_: Any) -> None:
        assert environment.parsed_options is not None
        Buyer.parameters = Parameters.of_json(environment.parsed_options.parameters)
        if not isinstance(environment.runner, WorkerRunner):
            wait = _wait_for_duration if shape.has_duration else _wait_for_buyers
            gevent.spawn(_quit_after, wait, environment)

    def decide(environment: Environment, **_: Any) -> None:
        if not isinstance(environment.runner, WorkerRunner):
            environment.process_exit_code = _decide(environment, shape)

    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_combine_tallies)
    events.test_start.add_listener(start)
    events.quitting.add_listener(decide)


def _add_options(parser: LocustArgumentParser) -> None:
    """Options that Locust passes to its workers, also on other machines."""
    parser.add_argument("--parameters", default=Parameters().as_json(), help="see parameters.py")
    parser.add_argument("--folder", default="", help="where to write verdict and counts")


def _combine_tallies(environment: Environment, **_: Any) -> None:
    logging.getLogger("locust.stats_logger").setLevel(
        logging.ERROR
    )  # report.py prints the statistics
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(_send_tally)
    elif isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(_receive_tally)


def _send_tally(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - passed by keyword
    data["tally"] = Buyer.tally.message()
    Buyer.tally = Tally()


def _receive_tally(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001
    Buyer.tally.add(Tally.of_message(data["tally"]))


def _quit_after(wait: Callable[[Environment], None], environment: Environment) -> None:
    assert environment.runner is not None
    try:
        wait(environment)
    finally:
        environment.runner.stop()  # waits for calls in progress (--stop-timeout)
        environment.runner.quit()


def _wait_for_buyers(_environment: Environment) -> None:
    parameters = Buyer.parameters
    deadline = time.monotonic() + parameters.ramp + SECONDS_MAX
    while Buyer.tally.buyers < parameters.users and time.monotonic() < deadline:
        gevent.sleep(0.1)


def _wait_for_duration(environment: Environment) -> None:
    started = time.monotonic()
    minutes, seconds = divmod(Buyer.parameters.duration, 60)
    for minute in range(1, minutes + 1):
        gevent.sleep(started + minute * 60 - time.monotonic())
        report.minute(environment, minute)
    gevent.sleep(seconds)


def _decide(environment: Environment, shape: Shape) -> int:
    parameters = Buyer.parameters
    assert environment.parsed_options is not None
    try:
        stocks = _stocks(parameters, holds_expire=shape.holds_expire)
    except CannotRun as reason:
        report.cannot_run(reason)
        return 2
    faults = shape.judge(Buyer.tally, stocks, parameters)
    report.verdict(environment, Buyer.tally, stocks, faults)
    if environment.parsed_options.folder:
        result = {"exact": not faults, "faults": faults, "answers": Buyer.tally.answers}
        report.write(environment, Path(environment.parsed_options.folder), result)
    return 1 if faults else 0


def _stocks(parameters: Parameters, *, holds_expire: bool) -> dict[str, Stock]:
    """The final stock of all resources, after the holds have expired if they do so soon."""
    stage = Stage(parameters.host)
    deadline = time.monotonic() + (HOLDS_SECONDS_MAX if holds_expire else 0)
    while True:
        stocks = {resource_id: stage.stock(resource_id) for resource_id in parameters.stocks()}
        if time.monotonic() >= deadline or not any(stock.held for stock in stocks.values()):
            return stocks
        gevent.sleep(0.5)
