"""The engine against a model of itself that fits on a page: any calls, in any order."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import Engine
from tests.integration.test_settle import past
from tests.support.handlers import (
    commit,
    read_reservation,
    read_resource,
    release,
    reserve,
    set_stock,
)

NAMES = ("a", "b", "c")


@dataclass
class Hold:
    items: Counter[str]
    status: str = "HELD"
    over: bool = False
    """Past its deadline, whether or not anybody has closed it."""

    @property
    def shown(self) -> str:
        return "EXPIRED" if self.status == "HELD" and self.over else self.status


@dataclass
class Model:
    totals: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)

    def units(self, resource_id: str, *statuses: str) -> int:
        return sum(
            hold.items[resource_id] for hold in self.holds.values() if hold.shown in statuses
        )

    def available(self, resource_id: str) -> int:
        return self.totals[resource_id] - self.units(resource_id, "HELD", "COMMITTED")


def machine(  # noqa: C901 - eight small methods
    engine: Engine, *, with_redis: bool
) -> type[RuleBasedStateMachine]:
    class Calls(RuleBasedStateMachine):
        tokens: Bundle[str] = Bundle("tokens")
        orders: Bundle[tuple[str, tuple[tuple[str, int], ...], str]] = Bundle("orders")

        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.prefix = uuid4().hex[:10]

        def id(self, name: str) -> str:
            return f"{self.prefix}-{name}"

        @rule(name=st.sampled_from(NAMES), total=st.integers(0, 8))
        def sets(self, name: str, total: int) -> None:
            code = set_stock(self.id(name), total).code
            if name in self.model.totals:
                allocated = self.model.units(name, "HELD", "COMMITTED")
                assert code == ("ok" if total >= allocated else "below_allocated")
            if code == "ok":
                self.model.totals[name] = total

        @rule(
            target=orders,
            lines=st.lists(
                st.tuples(st.sampled_from(NAMES), st.integers(1, 4)), min_size=1, max_size=3
            ),
        )
        def reserves(self, lines: list[tuple[str, int]]) -> Any:
            key = uuid4().hex
            asked = tuple((self.id(name), units) for name, units in lines)
            reply = reserve(*asked, key=key)
            wanted: Counter[str] = Counter()
            for name, units in lines:
                wanted[name] += units
            if not set(wanted) <= set(self.model.totals):
                assert reply.code == "resource_not_found"
                return multiple()
            short = {
                n: self.model.available(n) for n in wanted if self.model.available(n) < wanted[n]
            }
            if short:
                assert reply.code == "out_of_stock"
                told = {item["resourceId"]: item["available"] for item in reply.json["items"]}
                assert told.keys() == {self.id(name) for name in short}
                for name, left in short.items():
                    assert left <= told[self.id(name)] < wanted[name]
                    # A marker knows what a single item had when it was last refused.
                    assert told[self.id(name)] == left or (with_redis and len(wanted) == 1)
                return multiple()
            assert reply.code == "ok"
            self.model.holds[reply.json["token"]] = Hold(wanted)
            return key, asked, reply.text

        @rule(order=orders)
        def repeats(self, order: tuple[str, tuple[tuple[str, int], ...], str]) -> None:
            key, asked, answer = order
            assert reserve(*asked, key=key).text == answer

        @rule(data=st.data())
        def lets_a_deadline_pass(self, data: st.DataObject) -> None:
            live = [token for token, hold in self.model.holds.items() if hold.shown == "HELD"]
            if live:
                token = data.draw(st.sampled_from(live))
                past(engine, token)
                self.model.holds[token].over = True

        @rule(data=st.data(), verb=st.sampled_from(["commit", "reacquire", "release"]))
        def settles(self, data: st.DataObject, verb: str) -> None:
            if not self.model.holds:
                return
            token = data.draw(st.sampled_from(list(self.model.holds)))
            hold = self.model.holds[token]
            if verb == "release":
                code = release(token).code
                expected = "already_committed" if hold.shown == "COMMITTED" else "ok"
                hold.status = {"HELD": "RELEASED"}.get(hold.shown, hold.shown)
            else:
                code = commit(token, reacquire=verb == "reacquire").code
                expected = {"RELEASED": "already_released", "EXPIRED": "hold_expired"}.get(
                    hold.shown, "ok"
                )
                if expected == "hold_expired" and verb == "reacquire":
                    there = all(self.model.available(n) >= q for n, q in hold.items.items())
                    # One that nobody has closed yet still has its units, whatever others want.
                    if there:
                        expected = "ok"
                if expected == "ok":
                    hold.status = "COMMITTED"
            assert code == expected

        @invariant()
        def shows_what_the_model_has(self) -> None:
            for name, total in self.model.totals.items():
                view = read_resource(self.id(name)).json
                assert view["totalStock"] == total
                assert view["availableStock"] == self.model.available(name)
                assert view["heldStock"] == self.model.units(name, "HELD")
                assert view["committedStock"] == self.model.units(name, "COMMITTED")
            for token, hold in self.model.holds.items():
                assert read_reservation(token).json["status"] == hold.shown

        def teardown(self) -> None:
            assert engine.drift() == []

    return Calls


@pytest.mark.parametrize("which", ["engine", "engine_without_redis"])
def test_any_sequence_of_calls_gets_the_responses_of_the_model(
    which: str, request: pytest.FixtureRequest
) -> None:
    run_state_machine_as_test(
        machine(request.getfixturevalue(which), with_redis=which == "engine"),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
