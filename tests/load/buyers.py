"""Locust's side of every shape: buyers that count what they are answered, and the verdict.

Counts are per process; Locust's workers report them to its master, which adds them up.
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
"""How long a sale may go on after the last buyer has come; then it is judged as it is."""

GONE = constant(10**9)
"""The time to the next purchase of who makes one. Locust replaces users that stop while it still
starts others, and those would be buyers that nobody has counted."""

HOLDS_SECONDS_MAX = 30
"""How long it is waited for the last holds to end, where they do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: 0 and a reason if it was not answered."""

    status: int
    text: str

    @property
    def title(self) -> str:
        """The status and, of a refusal, its code: what answers are counted by."""
        return "200" if self.status == 200 else f"{self.status} {self._code()}"

    @property
    def token(self) -> str:
        return str(json.loads(self.text)["token"])

    def repeats(self, first: "Answer") -> bool:
        """Whether it is the first answer again: byte by byte if that was a hold."""
        return self == first if first.status == 200 else self.title == first.title

    def _code(self) -> str:
        try:
            return str(json.loads(self.text)["code"])
        except (ValueError, KeyError, TypeError):
            return self.text[:80] or "no answer"


class Buyer(FastHttpUser):
    """Arrives at some moment of its second, as people do; Locust starts users once a second."""

    abstract = True
    insecure = False
    connection_timeout = network_timeout = 60.0

    tally: ClassVar[Tally] = Tally()
    parameters: ClassVar[Parameters] = Parameters()

    def on_start(self) -> None:
        gevent.sleep(random.uniform(0, min(1, self.parameters.arrival_seconds)))

    def reserve(self, cart: Cart, ttl_seconds: int) -> Answer:
        """Ask for a cart, with a key of its own; some ask again, and must hear the same."""
        key = uuid4().hex
        answer = self._reserve("reserve", cart, ttl_seconds, key)
        if answer.status == 200:
            self.tally.held[answer.token] = cart
        elif answer.status == 409:
            self.tally.refused[cart] += 1
        if random.uniform(0, 100) < self.parameters.retry_percent:
            again = self._reserve("repeat", cart, ttl_seconds, key)
            if not again.repeats(answer):
                self.tally.wrong[f"another answer to a repeat: {answer.title}, {again.title}"] += 1
        return answer

    def _reserve(self, what: str, cart: Cart, ttl_seconds: int, key: str) -> Answer:
        lines = [
            {"resourceId": resource_id, "quantity": quantity} for resource_id, quantity in cart
        ]
        body = lines[0] if len(lines) == 1 else {"items": lines}
        return self.post(
            what, "reserve", body | {"ttlSeconds": ttl_seconds}, {"Idempotency-Key": key}
        )

    def post(
        self, what: str, verb: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One call, counted as what its answer is. Whether it may be is for the verdict."""
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
            response.request_meta["name"] = f"{what} {answer.title}"  # a line each in its report
            if answer.status in (200, 409, 410):
                response.success()
            else:
                response.failure(answer.title)
        self.tally.answers[f"{what} {answer.title}"] += 1
        return answer


@dataclass(frozen=True, slots=True)
class Shape:
    """What a locustfile adds to its buyers: when they are done, and what must have come of it."""

    judge: Callable[[Tally, Mapping[str, Stock], Parameters], list[str]]
    has_duration: bool = False  # else it is over when all buyers have come
    holds_end: bool = False  # else they are longer than the run


def attach(shape: Shape) -> None:
    """Has a run of this locustfile end when it is over, and its exit code be the verdict."""
    locust.stats.PERCENTILES_TO_CHART = report.PERCENTILES

    def start(environment: Environment, **_: Any) -> None:
        assert environment.parsed_options is not None
        Buyer.parameters = Parameters.of_json(environment.parsed_options.parameters)
        if not isinstance(environment.runner, WorkerRunner):
            over = _time_is_over if shape.has_duration else _all_have_come
            gevent.spawn(_quit_when, over, environment)

    def decide(environment: Environment, **_: Any) -> None:
        if not isinstance(environment.runner, WorkerRunner):
            environment.process_exit_code = _decide(environment, shape)

    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_share_the_counting)
    events.test_start.add_listener(start)
    events.quitting.add_listener(decide)


def _add_options(parser: LocustArgumentParser) -> None:
    """What Locust hands on to its workers, wherever they are."""
    parser.add_argument("--parameters", default=Parameters().as_json(), help="see parameters.py")
    parser.add_argument("--folder", default="", help="where to write verdict and counts")


def _share_the_counting(environment: Environment, **_: Any) -> None:
    logging.getLogger("locust.stats_logger").setLevel(logging.ERROR)  # report.py says it all
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(_hand_over)
    elif isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(_take_over)


def _hand_over(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - Locust names it
    data["tally"] = Buyer.tally.message()
    Buyer.tally = Tally()


def _take_over(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001
    Buyer.tally.add(Tally.of_message(data["tally"]))


def _quit_when(over: Callable[[Environment], None], environment: Environment) -> None:
    assert environment.runner is not None
    try:
        over(environment)
    finally:
        environment.runner.stop()  # waits for who is in the middle of something (--stop-timeout)
        environment.runner.quit()


def _all_have_come(_environment: Environment) -> None:
    parameters = Buyer.parameters
    deadline = time.monotonic() + parameters.ramp + SECONDS_MAX
    while Buyer.tally.buyers < parameters.users and time.monotonic() < deadline:
        gevent.sleep(0.1)


def _time_is_over(environment: Environment) -> None:
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
        stocks = _stocks(parameters, holds_end=shape.holds_end)
    except CannotRun as reason:
        report.cannot_run(reason)
        return 2
    faults = shape.judge(Buyer.tally, stocks, parameters)
    report.verdict(environment, Buyer.tally, stocks, faults)
    if environment.parsed_options.folder:
        told = {"exact": not faults, "faults": faults, "answers": Buyer.tally.answers}
        report.write(environment, Path(environment.parsed_options.folder), told)
    return 1 if faults else 0


def _stocks(parameters: Parameters, *, holds_end: bool) -> dict[str, Stock]:
    """What is left of everything; if the holds end soon, after that."""
    stage = Stage(parameters.host)
    deadline = time.monotonic() + (HOLDS_SECONDS_MAX if holds_end else 0)
    while True:
        stocks = {resource_id: stage.stock(resource_id) for resource_id in parameters.stocks()}
        if time.monotonic() >= deadline or not any(stock.held for stock in stocks.values()):
            return stocks
        gevent.sleep(0.5)
