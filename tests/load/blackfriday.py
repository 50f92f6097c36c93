"""Locustfile: everybody wants one of the same few units, once, within seconds."""

from collections.abc import Mapping

from locust import task

from tests.load.buyers import GONE, Buyer, Shape, attach
from tests.load.parameters import Parameters
from tests.load.verdict import Stock, Tally, judge_black_friday

TTL_SECONDS = 3_600
"""Longer than the run: what is held stays held until it is counted."""


class Shopper(Buyer):
    """Comes, asks for one unit, and goes."""

    wait_time = GONE

    @task
    def buy(self) -> None:
        try:
            self.reserve(((self.parameters.resource, 1),), TTL_SECONDS)
        finally:
            self.tally.buyers += 1


def judge(tally: Tally, stocks: Mapping[str, Stock], parameters: Parameters) -> list[str]:
    return judge_black_friday(tally, stocks, parameters.users, parameters.stocks())


attach(Shape(judge))
