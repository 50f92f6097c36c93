"""The strict JSON parser: it refuses ambiguous documents."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.http.strict_json import parsed

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


@given(values)
def test_a_document_round_trips(value: Any) -> None:
    assert parsed(json.dumps(value, ensure_ascii=False).encode()) == value
    assert parsed(json.dumps(value).encode()) == value


@given(st.text(st.characters(codec="utf-8")), values, values, values)
def test_a_duplicate_member_is_refused_at_any_depth(
    name: str, one: Any, other: Any, beside: Any
) -> None:
    escaped = json.dumps(name) if name.isascii() else json.dumps(name, ensure_ascii=False)
    members = f"{json.dumps(name)}: {json.dumps(one)}, {escaped}: {json.dumps(other)}"
    for text in (f"{{{members}}}", f'[{json.dumps(beside)}, {{"a": {{{members}}}}}]'):
        with pytest.raises(ValueError, match="has a duplicate member"):
            parsed(text.encode())


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.0", 1), ("-0.0", 0), ("1e3", 1_000), ("2.50E1", 25), ("9007199254740992.0", 2**53)],
)
def test_a_number_without_a_fraction_is_an_integer_in_any_notation(text: str, number: int) -> None:
    value = parsed(text.encode())

    assert (value, type(value)) == (number, int)


@pytest.mark.parametrize("text", ["1.5", "1e-3", "1e300", "1e999999999999"])
def test_any_other_number_is_refused(text: str) -> None:
    assert type(parsed(text.encode())) is float


@pytest.mark.parametrize(
    "content",
    [
        b"NaN",
        b"Infinity",
        b'{"a": -Infinity}',
        b"",
        b"{} {}",
        b"[1,]",
        b"'a'",
        b"01",
        b'"\n"',
        b'"\xff"',
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        b"\xef\xbb\xbf{}",  # a byte order mark
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"1" * 5_000,
    ],
)
def test_json_that_parsers_read_differently_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parsed(content)


def test_a_complete_surrogate_pair_is_one_character() -> None:
    assert parsed(rb'"\ud83e\uddc0"') == "🧀"
