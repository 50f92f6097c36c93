"""Locustfile: holds that are committed, released or left to end, at a steady rate for minutes.

What is committed is put on sale anew by __main__.py, so that it can go on for ever.
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
    """Comes once a second: as many of them as reservations are wanted per second."""

    wait_time = constant_pacing(1)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._left: deque[tuple[float, str]] = deque()

    @task
    def buy(self) -> None:
        answer = self.reserve(((self.parameters.resource, 1),), TTL_SECONDS)
        if answer.status == 200:
            self._settle(answer.token)
        if self._left and self._left[0][0] < time.monotonic():
            self.post("late commit", "commit", {"token": self._left.popleft()[1]})

    def _settle(self, token: str) -> None:
        chance = random.random()
        if chance < COMMITTED_SHARE:
            self.post("commit", "commit", {"token": token})
        elif chance < COMMITTED_SHARE + RELEASED_SHARE:
            self.post("release", "release", {"token": token})
        else:
            self._left.append((time.monotonic() + TTL_SECONDS, token))


def judge(tally: Tally, stocks: Mapping[str, Stock], _parameters: Parameters) -> list[str]:
    return judge_soak(tally, stocks)


attach(Shape(judge, has_duration=True, holds_end=True))
