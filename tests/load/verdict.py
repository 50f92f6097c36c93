"""What a load test saw, and whether that is what must be. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Cart = tuple[tuple[str, int], ...]
"""Units of resources: what one reservation asks for."""

RESERVED = "reserve 200"
SOLD_OUT = "reserve 409 out_of_stock"
RESERVED_AGAIN = "repeat 200"
SOLD_OUT_AGAIN = "repeat 409 out_of_stock"
COMMITTED = "commit 200"
RELEASED = "release 200"
TOO_LATE = "late commit 410 hold_expired"

OF_A_SALE = {RESERVED, SOLD_OUT, RESERVED_AGAIN, SOLD_OUT_AGAIN}
OF_A_SOAK = {RESERVED, SOLD_OUT, COMMITTED, RELEASED, TOO_LATE}


@dataclass(slots=True)
class Tally:
    """What buyers were answered. Those of several processes add up, in any order."""

    buyers: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    held: dict[str, Cart] = field(default_factory=dict)
    refused: Counter[Cart] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """A token of both is one token: then there are fewer of them than answers."""
        self.buyers += other.buyers
        self.answers += other.answers
        self.held |= other.held
        self.refused += other.refused
        self.wrong += other.wrong

    def message(self) -> dict[str, Any]:
        """For another process."""
        return {
            "buyers": self.buyers,
            "answers": dict(self.answers),
            "held": list(self.held.items()),
            "refused": list(self.refused.items()),
            "wrong": dict(self.wrong),
        }

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Tally:
        """Of another process, where tuples became lists."""
        return cls(
            message["buyers"],
            Counter(message["answers"]),
            {token: _cart(lines) for token, lines in message["held"]},
            Counter({_cart(lines): count for lines, count in message["refused"]}),
            Counter(message["wrong"]),
        )


@dataclass(frozen=True, slots=True)
class Stock:
    """A resource as the API tells it."""

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
    """What is wrong with a sale of one unit to each buyer: all there are must be sold, no more."""
    sold = min(users, sum(on_sale.values()))
    expected = {RESERVED: sold, SOLD_OUT: users - sold}
    return [
        f"{tally.answers[answer]:,} x {answer}, and not {count:,}"
        for answer, count in expected.items()
        if tally.answers[answer] != count
    ] + judge_sale(tally, stocks, users, on_sale)


def judge_sale(
    tally: Tally, stocks: Mapping[str, Stock], users: int, on_sale: Mapping[str, int]
) -> list[str]:
    """What is wrong after each user asked for a cart, and nobody gave anything back.

    What is held is what was told to be, and who was refused could not have been served: stock only
    went down, so it would still be there.
    """
    faults = _faults_of_answers(tally, OF_A_SALE)
    if tally.buyers != users:
        faults.append(f"{tally.buyers:,} buyers were answered, and not {users:,}")
    told = _units(tally.held.values())
    for resource_id, stock in stocks.items():
        faults += _faults_of_books(resource_id, stock)
        if stock.total != on_sale[resource_id]:
            faults.append(f"{resource_id}: the total is {stock.total:,}: somebody else changed it")
        if stock.held + stock.committed != told[resource_id]:
            faults.append(
                f"{resource_id}: {stock.held + stock.committed:,} units are held or committed,"
                f" and buyers were told of {told[resource_id]:,}"
            )
    for cart, count in tally.refused.items():
        if all(stocks[resource_id].available >= quantity for resource_id, quantity in cart):
            faults.append(f"{count:,} x refused, though it is there: {_text(cart)}")
    return faults


def judge_soak(tally: Tally, stocks: Mapping[str, Stock]) -> list[str]:
    """What is wrong after all holds have ended: what is sold is what buyers were told is."""
    faults = _faults_of_answers(tally, OF_A_SOAK)
    ended = tally.answers[COMMITTED] + tally.answers[RELEASED]
    if not 0 < ended <= len(tally.held):
        faults.append(f"{ended:,} holds were settled, of {len(tally.held):,}")
    for resource_id, stock in stocks.items():
        faults += _faults_of_books(resource_id, stock)
        if stock.held:
            faults.append(f"{resource_id}: {stock.held:,} units are still held")
    committed = sum(stock.committed for stock in stocks.values())
    if committed != tally.answers[COMMITTED]:
        faults.append(
            f"{committed:,} units are committed, and buyers were told of"
            f" {tally.answers[COMMITTED]:,}"
        )
    return faults


def _faults_of_answers(tally: Tally, expected: set[str]) -> list[str]:
    faults = [
        f"{count:,} x {answer}" for answer, count in tally.answers.items() if answer not in expected
    ]
    faults += [f"{count:,} x {what}" for what, count in tally.wrong.items()]
    if tally.answers[RESERVED] != len(tally.held):
        faults.append(f"{tally.answers[RESERVED]:,} holds, of {len(tally.held):,} distinct tokens")
    return faults


def _faults_of_books(resource_id: str, stock: Stock) -> list[str]:
    faults = []
    if stock.total != stock.available + stock.held + stock.committed:
        faults.append(f"{resource_id}: units were lost or made: {stock}")
    if min(stock.available, stock.held, stock.committed) < 0:
        faults.append(f"{resource_id}: less than nothing: {stock}")
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
