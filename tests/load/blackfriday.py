"""Locustfile: each buyer requests one unit of the same resource, once, within seconds."""

from collections.abc import Mapping

from locust import task

from tests.load.buyers import NEVER, Buyer, Shape, attach
from tests.load.parameters import Parameters
from tests.load.verdict import Stock, Tally, judge_black_friday

TTL_SECONDS = 3_600
"""Longer than the run, so that holds do not expire before they are counted."""


class Shopper(Buyer):
    """Requests one unit once."""

    wait_time = NEVER

    @task
    def buy(self) -> None:
        try:
            self.reserve(((self.parameters.resource, 1),), TTL_SECONDS)
        finally:
            self.tally.buyers += 1


def judge(tally: Tally, stocks: Mapping[str, Stock], parameters: Parameters) -> list[str]:
    return judge_black_friday(tally, stocks, parameters.users, parameters.stocks())


attach(Shape(judge))
