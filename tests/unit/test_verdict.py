"""The verdict on a load test: an exact sale passes, and any deviation by one fails."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.parameters import CannotRun, Parameters
from tests.load.verdict import (
    COMMITTED,
    RELEASED,
    RESERVED,
    SOLD_OUT,
    Cart,
    Stock,
    Tally,
    judge_black_friday,
    judge_sale,
    judge_soak,
)

NAME = "ps5"
ONE: Cart = ((NAME, 1),)
numbers = st.integers(0, 40)


def exact_sale(users: int, on_sale: int) -> tuple[Tally, Stock]:
    """The expected outcome of a Black Friday."""
    sold = min(users, on_sale)
    tally = Tally(
        users,
        Counter({RESERVED: sold, SOLD_OUT: users - sold}),
        {f"token-{n}": ONE for n in range(sold)},
        +Counter({ONE: users - sold}),
    )
    return tally, Stock(on_sale, on_sale - sold, sold, 0)


def judged(tally: Tally, stock: Stock, users: int, on_sale: int) -> list[str]:
    return judge_black_friday(tally, {NAME: stock}, users, {NAME: on_sale})


@given(numbers, numbers)
def test_selling_exactly_the_stock_passes(users: int, on_sale: int) -> None:
    assert judged(*exact_sale(users, on_sale), users, on_sale) == []


@given(st.integers(1, 40), numbers, st.sampled_from(["sold", "told", "lost", "made", "token"]))
def test_one_unit_off_fails(users: int, on_sale: int, off: str) -> None:
    tally, stock = exact_sale(users, on_sale)
    if off == "sold":  # one more than the stock
        tally.answers[RESERVED] += 1
        tally.answers[SOLD_OUT] -= 1
        tally.held["one-more"] = ONE
        stock = replace(stock, available=stock.available - 1, held=stock.held + 1)
    elif off == "told":  # confirmed to a buyer, but not counted in the database
        tally.held["one-more"] = ONE
    elif off == "lost":
        stock = replace(stock, total=stock.total + 1)
    elif off == "made":
        stock = replace(stock, available=stock.available + 1)
    else:  # one token for two buyers
        tally.held = dict(list(tally.held.items())[1:]) if tally.held else {"one-more": ONE}

    assert judged(tally, stock, users, on_sale)


@given(st.integers(1, 40), numbers, st.sampled_from(["503 contention", "0 refused", "409 other"]))
def test_any_unexpected_response_fails(users: int, on_sale: int, other: str) -> None:
    tally, stock = exact_sale(users, on_sale)
    tally.answers[f"reserve {other}"] += 1

    assert f"1 x reserve {other}" in judged(tally, stock, users, on_sale)


def test_a_different_response_to_a_repeat_fails() -> None:
    tally, stock = exact_sale(5, 2)
    tally.wrong["another answer to a repeat"] += 1

    assert judged(tally, stock, 5, 2) == ["1 x another answer to a repeat"]


def test_a_refusal_of_available_stock_is_wrong() -> None:
    cart: Cart = (("a", 2), ("b", 1))
    tally = Tally(1, Counter({SOLD_OUT: 1}), {}, Counter({cart: 1}))
    on_sale = {"a": 2, "b": 1}
    plenty, short = Stock(2, 2, 0, 0), Stock(1, 1, 0, 0)

    assert judge_sale(tally, {"a": plenty, "b": short}, 1, on_sale) == [
        "1 x refused although available: 2 of a, 1 of b"
    ]
    tally.held, tally.answers, tally.buyers = (
        {"t": (("b", 1),)},
        tally.answers + Counter({RESERVED: 1}),
        2,
    )
    assert judge_sale(tally, {"a": plenty, "b": Stock(1, 0, 1, 0)}, 2, on_sale) == []


@given(st.integers(1, 20), numbers, st.sampled_from([-1, 1]))
def test_after_a_soak_the_stock_agrees_with_the_responses(
    committed: int, left: int, off: int
) -> None:
    held = {f"token-{n}": ONE for n in range(committed + 1 + left)}
    tally = Tally(0, Counter({RESERVED: len(held), COMMITTED: committed, RELEASED: 1}), held)
    stock = Stock(100, 100 - committed, 0, committed)
    lost = replace(stock, available=stock.available - off, committed=committed + off)

    assert judge_soak(tally, {NAME: stock}) == []
    assert judge_soak(tally, {NAME: lost})
    assert judge_soak(tally, {NAME: replace(stock, available=stock.available - 1, held=1)})


carts = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=3).map(tuple)
counts = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(1, 9)).map(Counter)
tallies = st.builds(
    Tally,
    st.integers(0, 99),
    counts,
    st.dictionaries(st.uuids().map(str), carts, max_size=4),
    st.dictionaries(carts, st.integers(1, 9), max_size=3).map(Counter),
    counts,
)


@given(st.lists(tallies, max_size=5), st.randoms())
def test_the_counts_of_several_processes_add_up_in_any_order(
    parts: list[Tally], chance: Any
) -> None:
    messages = [json.loads(json.dumps(part.message())) for part in parts]
    shuffled = messages[:]
    chance.shuffle(shuffled)

    one, other = Tally(), Tally()
    for message in messages:
        one.add(Tally.of_message(message))
    for message in shuffled:
        other.add(Tally.of_message(message))

    assert one == other
    assert one.buyers == sum(part.buyers for part in parts)
    assert one.answers.total() == sum(part.answers.total() for part in parts)
    assert len(one.held) == sum(len(part.held) for part in parts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USERS", "many"),
        ("USERS", "0"),
        ("STOCK", "-1"),
        ("RETRY_PERCENT", "101"),
        ("SHAPE", "square"),
        ("HOST", "x86_64-conda-linux-gnu"),
        ("WORKERS", "2"),
    ],
)
def test_a_malformed_parameter_is_named(name: str, value: str) -> None:
    with pytest.raises(CannotRun, match=name) as refused:
        Parameters.of({name: value})

    assert "\n" not in str(refused.value)


def test_parameters_reach_other_machines_unchanged() -> None:
    parameters = Parameters.of({"USERS": "7", "SHAPE": "mixed", "RESOURCE": "r", "STOCK": ""})

    assert (parameters.users, parameters.shape, parameters.stock) == (7, "mixed", 100)
    assert Parameters.of_json(parameters.as_json()) == parameters
