"""Results of a load test, and their verification. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Cart = tuple[tuple[str, int], ...]
"""The items of one reservation: resource id and quantity."""

RESERVED = "reserve 200"
SOLD_OUT = "reserve 409 out_of_stock"
RESERVED_AGAIN = "repeat 200"
SOLD_OUT_AGAIN = "repeat 409 out_of_stock"
COMMITTED = "commit 200"
RELEASED = "release 200"
TOO_LATE = "late commit 410 hold_expired"

SALE_RESPONSES = {RESERVED, SOLD_OUT, RESERVED_AGAIN, SOLD_OUT_AGAIN}
SOAK_RESPONSES = {RESERVED, SOLD_OUT, COMMITTED, RELEASED, TOO_LATE}


@dataclass(slots=True)
class Tally:
    """Counts of responses. Those of several processes can be added in any order."""

    buyers: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    held: dict[str, Cart] = field(default_factory=dict)
    refused: Counter[Cart] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another tally. A duplicate token counts once: fewer tokens than holds."""
        self.buyers += other.buyers
        self.answers += other.answers
        self.held |= other.held
        self.refused += other.refused
        self.wrong += other.wrong

    def message(self) -> dict[str, Any]:
        """The form for sending it to another process."""
        return {
            "buyers": self.buyers,
            "answers": dict(self.answers),
            "held": list(self.held.items()),
            "refused": list(self.refused.items()),
            "wrong": dict(self.wrong),
        }

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Tally:
        """Read the form of another process, in which tuples became lists."""
        return cls(
            message["buyers"],
            Counter(message["answers"]),
            {token: _cart(lines) for token, lines in message["held"]},
            Counter({_cart(lines): count for lines, count in message["refused"]}),
            Counter(message["wrong"]),
        )


@dataclass(frozen=True, slots=True)
class Stock:
    """The stock of a resource, as reported by the API."""

    total: int
    available: int
    held: int
    committed: int

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> Stock:
        states = ("total", "available", "held", "committed")
        return cls(**{state: int(view[f"{state}Stock"]) for state in states})


def judge_black_friday(
    tally: Tally, stocks: Mapping[str, Stock], users: int, on_sale: Mapping[str, int]
) -> list[str]:
    """Faults of a sale of one unit per buyer: all units must be sold, and no more."""
    sold = min(users, sum(on_sale.values()))
    expected = {RESERVED: sold, SOLD_OUT: users - sold}
    return [
        f"{tally.answers[answer]:,} x {answer}, expected {count:,}"
        for answer, count in expected.items()
        if tally.answers[answer] != count
    ] + judge_sale(tally, stocks, users, on_sale)


def judge_sale(
    tally: Tally, stocks: Mapping[str, Stock], users: int, on_sale: Mapping[str, int]
) -> list[str]:
    """Faults of a sale in which each user reserves one cart and no stock is returned.

    The units held must match the responses. A refused cart must not be available: stock only
    decreased, so it would still be available now.
    """
    faults = _response_faults(tally, SALE_RESPONSES)
    if tally.buyers != users:
        faults.append(f"{tally.buyers:,} buyers got a response, expected {users:,}")
    reported = _units(tally.held.values())
    for resource_id, stock in stocks.items():
        faults += _stock_faults(resource_id, stock)
        if stock.total != on_sale[resource_id]:
            faults.append(f"{resource_id}: the total is {stock.total:,}: another client changed it")
        if stock.held + stock.committed != reported[resource_id]:
            faults.append(
                f"{resource_id}: {stock.held + stock.committed:,} units are held or committed,"
                f" but responses report {reported[resource_id]:,}"
            )
    for cart, count in tally.refused.items():
        if all(stocks[resource_id].available >= quantity for resource_id, quantity in cart):
            faults.append(f"{count:,} x refused although available: {_text(cart)}")
    return faults


def judge_soak(tally: Tally, stocks: Mapping[str, Stock]) -> list[str]:
    """Faults of a soak test after all holds have ended: stock must match the responses."""
    faults = _response_faults(tally, SOAK_RESPONSES)
    ended = tally.answers[COMMITTED] + tally.answers[RELEASED]
    if not 0 < ended <= len(tally.held):
        faults.append(f"{ended:,} holds were settled, of {len(tally.held):,}")
    for resource_id, stock in stocks.items():
        faults += _stock_faults(resource_id, stock)
        if stock.held:
            faults.append(f"{resource_id}: {stock.held:,} units are still held")
    committed = sum(stock.committed for stock in stocks.values())
    if committed != tally.answers[COMMITTED]:
        faults.append(
            f"{committed:,} units are committed, but responses report {tally.answers[COMMITTED]:,}"
        )
    return faults


def _response_faults(tally: Tally, expected: set[str]) -> list[str]:
    faults = [
        f"{count:,} x {answer}" for answer, count in tally.answers.items() if answer not in expected
    ]
    faults += [f"{count:,} x {text}" for text, count in tally.wrong.items()]
    if tally.answers[RESERVED] != len(tally.held):
        faults.append(f"{tally.answers[RESERVED]:,} holds, of {len(tally.held):,} distinct tokens")
    return faults


def _stock_faults(resource_id: str, stock: Stock) -> list[str]:
    faults = []
    if stock.total != stock.available + stock.held + stock.committed:
        faults.append(f"{resource_id}: units were lost or created: {stock}")
    if min(stock.available, stock.held, stock.committed) < 0:
        faults.append(f"{resource_id}: negative stock: {stock}")
    return faults


def _units(carts: Any) -> Counter[str]:
    units: Counter[str] = Counter()
    for cart in carts:
        for resource_id, quantity in cart:
            units[resource_id] += quantity
    return units


def _cart(lines: Any) -> Cart:
    return tuple((resource_id, quantity) for resource_id, quantity in lines)


def _text(cart: Cart) -> str:
    return ", ".join(f"{quantity} of {resource_id}" for resource_id, quantity in cart)
