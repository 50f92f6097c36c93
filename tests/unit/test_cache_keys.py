"""The keys of one Lua script hash to one slot of a cluster, for every resource id."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from openreserve.cache import hints
from tests.conftest import forget


@pytest.fixture(autouse=True)
def _settings_of_their_own() -> Iterator[None]:
    forget()
    yield
    forget()


@given(st.text(alphabet=st.one_of(st.sampled_from("{}"), st.characters()), max_size=20))
@example("}")
@example("}{")
@example("{}")
@example("}a}")
def test_both_keys_of_a_resource_hash_to_one_slot(resource_id: str) -> None:
    marker, returned = hints._stock_keys(resource_id)

    assert key_slot(marker.encode("utf-8", "surrogatepass")) == key_slot(
        returned.encode("utf-8", "surrogatepass")
    )


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_two_resources_share_a_key(one: str, other: str) -> None:
    keys = {*hints._stock_keys(one), *hints._stock_keys(other)}

    assert len(keys) == (2 if one == other else 4)


def test_the_deadlines_and_their_signal_hash_to_one_slot() -> None:
    first, second = hints._key(hints._DEADLINES), hints._key(hints._EARLIER)

    assert key_slot(first.encode()) == key_slot(second.encode())


def test_a_restore_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {hints._answer_key("k"), *hints._stock_keys("r"), hints._key(hints._DEADLINES)}
    monkeypatch.setenv("REDIS_KEY_PREFIX", "openreserve:2")
    forget()
    after = {hints._answer_key("k"), *hints._stock_keys("r"), hints._key(hints._DEADLINES)}

    assert before & after == set()
    assert all(key.startswith("openreserve:2:") for key in after)
