"""Requested items, resource ids, and the lock order."""

import re
from collections import Counter
from unicodedata import is_normalized, normalize
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.domain.resources import (
    Item,
    is_resource_id,
    normalized_prefix,
    normalized_resource_id,
    summed,
)

lines = st.lists(st.builds(Item, st.text(max_size=3), st.integers(1, 10)))


@given(lines)
def test_lines_of_one_resource_are_summed_without_losing_units(requested: list[Item]) -> None:
    items = summed(requested)

    assert len({item.resource_id for item in items}) == len(items)
    expected: Counter[str] = Counter()
    for line in requested:
        expected[line.resource_id] += line.quantity
    assert {item.resource_id: item.quantity for item in items} == expected


@given(lines, st.randoms())
def test_the_order_of_the_lines_does_not_matter(requested: list[Item], random: object) -> None:
    shuffled = sorted(requested, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert summed(shuffled) == summed(requested)


@given(lines.filter(lambda requested: all(line.resource_id.isprintable() for line in requested)))
def test_items_are_sorted_in_the_lock_order_of_postgres(requested: list[Item]) -> None:
    ids = [item.resource_id for item in summed(requested)]

    assert ids == sorted(ids, key=lambda text: text.encode("utf-8"))


ids = st.text(min_size=1, max_size=12).filter(is_resource_id)
decomposing = st.text(
    "aeou\u0301\u0308\u0327\uac00\u1100\u1161éÄ\u212b .\u200d\u200cش🧀", max_size=8
)


@given(st.text() | decomposing)
def test_normalizing_an_id_to_nfc_is_idempotent(text: str) -> None:
    if is_resource_id(text):
        resource_id = normalized_resource_id(text)

        assert is_normalized("NFC", resource_id)
        assert 1 <= len(resource_id) <= 200
        assert not {"/", "\0"} & set(resource_id)
        assert normalized_resource_id(resource_id) == resource_id
        assert normalized_resource_id(normalize("NFD", text)) == resource_id
        assert normalized_resource_id(unquote(quote(resource_id, safe=""))) == resource_id
        assert resource_id.strip() == resource_id


@given(ids, st.integers(0, 12))
def test_every_leading_part_of_an_id_is_a_valid_prefix(resource_id: str, length: int) -> None:
    resource_id = normalized_resource_id(resource_id)

    assert resource_id.startswith(normalized_prefix(resource_id[:length]))


@pytest.mark.parametrize(
    "text",
    [
        "hotel-room-101",
        "concert-seat-floor-A1",
        "ps5_sku_123",
        "Käse 🧀",
        "a" * 200,
        "{y}",
        "a?b#c%2F",
        "...",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # one Persian word
        "PDF\u200c\u0647\u0627",
        "क्\u200dष",
        "👩\u200d👩\u200d👧",
        "❤\ufe0f\u200d🔥",
        "🇫🇷",
    ],
)
def test_ordinary_words_names_and_emoji_are_valid_ids(text: str) -> None:
    assert normalized_resource_id(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have 1 to 200 characters"),
        ("a" * 201, "must have 1 to 200 characters"),
        ("a/b", "must have printable characters only, and no slash"),
        ("a\nb", "must have printable"),
        ("a\tb", "must have printable"),
        ("a\0b", "must have printable"),
        ("\ud800", "must have printable"),
        ("a\u00a0b", "must have printable"),  # a no-break space
        ("a\u2028b", "must have printable"),
        ("a\u202eb", "must have printable"),  # right-to-left override
        ("a\u2066b", "must have printable"),
        ("a\u200bb", "must have printable"),
        ("a\u00adb", "must have printable"),
        ("\ufeffa", "must have printable"),
        ("a\ue000", "must have printable"),
        ("a\U000e0041", "must have printable"),
        ("a\u0378", "must have printable"),
        (".", "must not be . or .."),
        ("..", "must not be . or .."),
        (" row7", "must not begin or end with a space"),
        ("row7 ", "must not begin or end with a space"),
        (" ", "must not begin or end with a space"),
        ("row\u200d7", "must have U+200C and U+200D only"),
        ("\u200dش", "must have U+200C"),
        ("ش\u200c", "must have U+200C"),
        ("ش\u200c\u200cش", "must have U+200C"),
    ],
)
def test_visually_ambiguous_ids_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        normalized_resource_id(text)


@pytest.mark.parametrize("prefix", ["/", " a", "a\0", "a" * 201, "a" * 199 + "\0"])
def test_a_prefix_that_no_id_can_start_with_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="must"):
        normalized_prefix(prefix)


def test_a_prefix_may_end_with_characters_that_may_not_end_an_id() -> None:
    for prefix in ("", "row ", ".", "..", "ش\u200c", "a\u200c", "a" * 200):
        assert normalized_prefix(prefix) == prefix
    assert normalized_prefix("e\u0301") == "é"
