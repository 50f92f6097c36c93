"""A model of the engine in memory: the expected response to every call. No clock, no I/O."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Hold:
    quantities: Counter[str]
    status: str = "HELD"
    past_deadline: bool = False
    """Whether the deadline has passed, even if no sweep has closed the hold yet."""

    @property
    def shown(self) -> str:
        return "EXPIRED" if self.status == "HELD" and self.past_deadline else self.status


@dataclass
class Model:
    totals: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)

    def units(self, name: str, *statuses: str) -> int:
        return sum(hold.quantities[name] for hold in self.holds.values() if hold.shown in statuses)

    def available(self, name: str) -> int:
        return self.totals[name] - self.units(name, "HELD", "COMMITTED")

    def live(self) -> list[str]:
        return [token for token, hold in self.holds.items() if hold.shown == "HELD"]

    def set_stock(self, name: str, total: int) -> str:
        if total < self.units(name, "HELD", "COMMITTED"):
            return "below_allocated"
        self.totals[name] = total
        return "ok"

    def short(self, quantities: Counter[str]) -> dict[str, int]:
        """The available units of each resource that has too few."""
        available = {name: self.available(name) for name in quantities}
        return {name: units for name, units in available.items() if units < quantities[name]}

    def reserve(self, quantities: Counter[str]) -> str:
        if not quantities.keys() <= self.totals.keys():
            return "resource_not_found"
        return "out_of_stock" if self.short(quantities) else "ok"

    def commit(self, token: str, *, reacquire: bool) -> str:
        hold = self.holds[token]
        if hold.shown == "RELEASED":
            return "already_released"
        # An expired hold that is not closed yet still has its units: they count as available.
        if hold.shown == "EXPIRED" and (not reacquire or self.short(hold.quantities)):
            return "hold_expired"
        hold.status = "COMMITTED"
        return "ok"

    def release(self, token: str) -> str:
        hold = self.holds[token]
        if hold.shown == "COMMITTED":
            return "already_committed"
        hold.status = "RELEASED" if hold.shown == "HELD" else hold.shown
        return "ok"
