"""What is asked for, and the order of the locks."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from openreserve.stock import Item, is_resource_id, summed

lines = st.lists(st.builds(Item, st.text(max_size=3), st.integers(1, 10)))


@given(lines)
def test_lines_of_one_resource_are_added_up_and_no_unit_is_lost(asked: list[Item]) -> None:
    items = summed(asked)

    assert len({item.resource_id for item in items}) == len(items)
    wanted: Counter[str] = Counter()
    for line in asked:
        wanted[line.resource_id] += line.quantity
    assert {item.resource_id: item.quantity for item in items} == wanted


@given(lines, st.randoms())
def test_the_order_of_the_lines_does_not_matter(asked: list[Item], random: object) -> None:
    shuffled = sorted(asked, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert summed(shuffled) == summed(asked)


@given(lines.filter(lambda asked: all(line.resource_id.isprintable() for line in asked)))
def test_items_come_in_the_order_in_which_postgres_locks_rows(asked: list[Item]) -> None:
    ids = [item.resource_id for item in summed(asked)]

    assert ids == sorted(ids, key=lambda text: text.encode("utf-8"))


@given(st.text())
def test_what_names_a_resource_can_stand_in_a_path_and_in_postgres(text: str) -> None:
    if is_resource_id(text):
        assert 1 <= len(text) <= 200
        assert "/" not in text
        assert "\0" not in text
        assert text.encode("utf-8")


def test_names_from_the_readme_are_resource_ids() -> None:
    for text in ("hotel-room-101", "concert-seat-floor-A1", "ps5_sku_123", "Käse 🧀", "a" * 200):
        assert is_resource_id(text), text
    for text in ("", "a" * 201, "a/b", "a\nb", "a\0b", "\ud800"):
        assert not is_resource_id(text), text
