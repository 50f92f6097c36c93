"""Random sequences of calls, compared with a model after every step.

MODEL_SEED=<seed> repeats a run. MODEL_EXAMPLES=<number> sets the number of sequences.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import SHOWN, Engine, ask_redis
from tests.integration.model import Hold, Model
from tests.integration.test_settle import past
from tests.support import handlers

STEPS = 25
SEED = int(os.environ.get("MODEL_SEED") or SystemRandom().getrandbits(32))
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES") or 25)

names = st.sampled_from(["a", "b", "c"])
carts = st.lists(st.tuples(names, st.integers(1, 4)), min_size=1, max_size=3)


@dataclass(frozen=True)
class Order:
    """A reserve that succeeded."""

    key: str
    items: tuple[tuple[str, int], ...]
    response: str
    token: str


def summed(cart: Sequence[tuple[str, int]]) -> Counter[str]:
    quantities: Counter[str] = Counter()
    for name, quantity in cart:
        quantities[name] += quantity
    return quantities


class EngineMachine(RuleBasedStateMachine):
    """A rule for each verb and each disturbance. Only a reserve adds to the orders."""

    engine: Engine
    with_redis: bool
    orders: Bundle[Order] = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.prefix = uuid4().hex[:10]

    def resource_id(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    @rule(name=names, total=st.integers(0, 8))
    def set_stock(self, name: str, total: int) -> None:
        reply = handlers.set_stock(self.resource_id(name), total)
        assert reply.code == self.model.set_stock(name, total)

    @rule(target=orders, cart=carts)
    def reserve(self, cart: Sequence[tuple[str, int]]) -> Any:
        quantities = summed(cart)
        key = uuid4().hex
        items = tuple((self.resource_id(name), quantity) for name, quantity in cart)
        reply = handlers.reserve(*items, key=key)
        assert reply.code == self.model.reserve(quantities)
        if reply.code == "out_of_stock":
            self.check_shortages(quantities, reply)
        if reply.code != "ok":
            return multiple()
        token = reply.json["token"]
        self.model.holds[token] = Hold(quantities)
        return Order(key, items, reply.text, token)

    def check_shortages(self, quantities: Counter[str], reply: handlers.Reply) -> None:
        short = self.model.short(quantities)
        reported = {item["resourceId"]: item["available"] for item in reply.json["items"]}
        assert reported.keys() == {self.resource_id(name) for name in short}
        for name, available in short.items():
            assert available <= reported[self.resource_id(name)] < quantities[name]
            # A sold-out marker has the available units of a single item at its last refusal.
            from_marker = self.with_redis and len(quantities) == 1
            assert reported[self.resource_id(name)] == available or from_marker

    @rule(order=orders)
    def retry_reserve(self, order: Order) -> None:
        assert handlers.reserve(*order.items, key=order.key).text == order.response

    @rule(order=orders)
    def reserve_with_used_key(self, order: Order) -> None:
        (resource_id, quantity), *others = order.items
        reply = handlers.reserve((resource_id, quantity + 1), *others, key=order.key)
        assert reply.code == "idempotency_key_reused"

    @rule(order=orders)
    def commit(self, order: Order) -> None:
        code = self.model.commit(order.token, reacquire=False)
        assert handlers.commit(order.token).code == code

    @rule(order=orders)
    def commit_reacquiring(self, order: Order) -> None:
        code = self.model.commit(order.token, reacquire=True)
        assert handlers.commit(order.token, reacquire=True).code == code

    @rule(order=orders)
    def release(self, order: Order) -> None:
        code = self.model.release(order.token)
        assert handlers.release(order.token).code == code

    @precondition(lambda self: self.model.live())
    @rule(data=st.data())
    def pass_deadline(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.model.live()))
        past(self.engine, token)
        self.model.holds[token].past_deadline = True

    @precondition(lambda self: self.with_redis)
    @rule()
    def flush_redis(self) -> None:
        ask_redis("FLUSHALL")

    @invariant()
    def resources_match_the_model(self) -> None:
        for name, total in self.model.totals.items():
            resource = handlers.read_resource(self.resource_id(name)).json
            assert resource["totalStock"] == total
            assert resource["availableStock"] == self.model.available(name)
            assert resource["heldStock"] == self.model.units(name, "HELD")
            assert resource["committedStock"] == self.model.units(name, "COMMITTED")

    @invariant()
    def reservations_match_the_model(self) -> None:
        for token, hold in self.model.holds.items():
            assert handlers.read_reservation(token).json["status"] == hold.shown

    def teardown(self) -> None:
        assert self.engine.drift() == []


@pytest.mark.parametrize("fixture", ["engine", "engine_without_redis"])
def test_any_sequence_of_calls_gets_the_responses_of_the_model(
    fixture: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    engine = request.getfixturevalue(fixture)
    record_property(SHOWN, f"{fixture}: {EXAMPLES} sequences of {STEPS} calls, MODEL_SEED={SEED}")
    print(f"repeat with MODEL_SEED={SEED}")  # also when the test fails

    with_redis = fixture == "engine"
    machine = type("Machine", (EngineMachine,), {"engine": engine, "with_redis": with_redis})

    run_state_machine_as_test(
        hypothesis.seed(SEED)(machine),
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
