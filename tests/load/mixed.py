"""Locustfile: carts with several items over many resources, reserved all or nothing."""

import random
from collections.abc import Mapping

from locust import task

from tests.load.buyers import NEVER, Buyer, Shape, attach
from tests.load.parameters import Parameters
from tests.load.verdict import Stock, Tally, judge_sale

TTL_SECONDS = 3_600
ITEMS_MAX = 5
QUANTITY_MAX = 3


class Collector(Buyer):
    """Requests one cart once."""

    wait_time = NEVER

    @task
    def buy(self) -> None:
        try:
            resource_ids = random.sample(
                list(self.parameters.stocks()), random.randint(1, ITEMS_MAX)
            )
            cart = tuple(
                (resource_id, random.randint(1, QUANTITY_MAX)) for resource_id in resource_ids
            )
            self.reserve(cart, TTL_SECONDS)
        finally:
            self.tally.buyers += 1


def judge(tally: Tally, stocks: Mapping[str, Stock], parameters: Parameters) -> list[str]:
    return judge_sale(tally, stocks, parameters.users, parameters.stocks())


attach(Shape(judge))
