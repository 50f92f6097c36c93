"""The Idempotency-Key header: bare or quoted, and never two of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.http.idempotency import as_field, parsed_key

keys = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, categories=("L", "N", "P", "S", "Zs")),
    min_size=1,
    max_size=12,
).filter(str.isprintable)
fields = keys.filter(lambda key: "," not in key and key[0] != '"' and key.strip()) | keys.map(
    lambda key: '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@given(keys)
def test_a_sent_key_is_read_back_unchanged(key: str) -> None:
    assert parsed_key(as_field(key)) == key


@given(fields, fields | st.just(""), st.sampled_from([",", ", "]))
def test_two_header_lines_joined_by_a_gateway_are_never_one_key(
    one: str, other: str, comma: str
) -> None:
    parsed_key(one)

    for joined in (one + comma + other, other + comma + one):
        with pytest.raises(ValueError, match="is not one key"):
            parsed_key(joined)


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("8e03978e", "8e03978e"),
        ('"8e03978e"', "8e03978e"),
        ('  "8e03978e" ', "8e03978e"),
        (r'"a \"quoted\" \\ key"', r'a "quoted" \ key'),
        ('"a, b"', "a, b"),
        ('" "', " "),
        ('a"b', 'a"b'),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_is_the_same_bare_and_quoted(field: str, key: str) -> None:
    assert parsed_key(field) == key


@pytest.mark.parametrize(
    "field",
    ["", " ", '""', "x" * 256, "a\nb", "a\0b", '"', '"a', '"a"b', r'"a\b"', '"a";b=1', "a,b", ","],
)
def test_an_empty_too_long_or_malformed_key_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=r"is not one key|must have 1 to 255"):
        parsed_key(field)
