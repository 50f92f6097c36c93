"""Locustfile: holds that are committed, released or left to expire, at a constant rate for minutes.

__main__.py replaces committed units, so that a run can be of any length.
"""

import random
import time
from collections import deque
from collections.abc import Mapping

from locust import constant_pacing, task
from locust.env import Environment

from tests.load.buyers import Buyer, Shape, attach
from tests.load.parameters import Parameters
from tests.load.verdict import Stock, Tally, judge_soak

TTL_SECONDS = 8
COMMITTED_SHARE = 0.3
RELEASED_SHARE = 0.3


class Regular(Buyer):
    """Reserves once a second. The number of users is the rate of reservations per second."""

    wait_time = constant_pacing(1)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._abandoned: deque[tuple[float, str]] = deque()

    @task
    def buy(self) -> None:
        answer = self.reserve(((self.parameters.resource, 1),), TTL_SECONDS)
        if answer.status == 200:
            self._settle(answer.token)
        if self._abandoned and self._abandoned[0][0] < time.monotonic():
            self.post("late commit", "commit", {"token": self._abandoned.popleft()[1]})

    def _settle(self, token: str) -> None:
        chance = random.random()
        if chance < COMMITTED_SHARE:
            self.post("commit", "commit", {"token": token})
        elif chance < COMMITTED_SHARE + RELEASED_SHARE:
            self.post("release", "release", {"token": token})
        else:
            self._abandoned.append((time.monotonic() + TTL_SECONDS, token))


def judge(tally: Tally, stocks: Mapping[str, Stock], _parameters: Parameters) -> list[str]:
    return judge_soak(tally, stocks)


attach(Shape(judge, has_duration=True, holds_expire=True))
