"""If-Match and If-None-Match, as defined by RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreserve.http.preconditions import NOT_THERE, OnVersion, Tags, entity_tag, parsed

opaque = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f').filter(
        lambda character: not 0x7F <= ord(character) < 0x80
    ),
    max_size=6,
)
tags = st.tuples(st.sampled_from(["", "W/"]), opaque.map(lambda text: f'"{text}"'))
commas = st.sampled_from([",", ", ", " ,\t", ",,", ", ,"])
versions = st.integers(1, 10**17)


@given(st.lists(tags, min_size=1, max_size=4), commas, st.sampled_from(["", ",", " ", "\t, "]))
def test_a_list_of_tags_is_parsed_with_any_characters_in_the_tags(
    listed: list[tuple[str, str]], comma: str, around: str
) -> None:
    tag_list = parsed(around + comma.join(weak + tag for weak, tag in listed) + around)

    assert tag_list.strong == {tag for weak, tag in listed if not weak}
    assert tag_list.weak == {tag for weak, tag in listed if weak}
    for _, tag in listed:
        assert tag_list.has(tag, weakly=True)
        assert tag_list.has(tag) == (tag in tag_list.strong)


@pytest.mark.parametrize(
    "field", ["", ",", '"3', '3"', "3", "three", '"3" "4"', 'w/"3"', 'W/ "3"', '*, "3"', '"a b"']
)
def test_a_malformed_list_of_tags_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="is not a list of entity tags"):
        parsed(field)


@pytest.mark.parametrize("field", ["*", " * "])
def test_a_star_matches_any_existing_resource(field: str) -> None:
    assert parsed(field) == Tags(anything=True)
    assert parsed(field).has('"x"')


@pytest.mark.parametrize(
    "tag", ['"01"', '"0"', '"three"', '"3-xyz"', '"3-0123456789AB"', '"٣"', '""']
)
def test_a_tag_that_the_api_does_not_issue_is_refused_on_a_write(tag: str) -> None:
    listed = Tags(strong=frozenset({tag, '"3"'}))

    for conditions in ((listed, None), (None, listed), (Tags(weak=frozenset({tag})), None)):
        with pytest.raises(ValueError, match="is not a tag that this API issues"):
            OnVersion(*conditions)


@given(st.frozensets(versions, max_size=3), st.frozensets(versions, max_size=3), versions)
def test_if_match_compares_strongly_and_if_none_match_weakly(
    strong: frozenset[int], weak: frozenset[int], version: int
) -> None:
    listed = Tags(
        strong=frozenset(f'"{each}"' for each in strong),
        weak=frozenset(entity_tag(each, "a view") for each in weak),
    )
    for present in strong | weak | {version}:
        assert OnVersion(listed, None).allows(present) == (present in strong)
        assert OnVersion(None, listed).allows(present) == (present not in strong | weak)
    assert not OnVersion(listed, None).allows(NOT_THERE)
    assert OnVersion(None, listed).allows(NOT_THERE)


@given(versions)
def test_a_star_checks_the_existence_of_the_resource(version: int) -> None:
    anything = Tags(anything=True)

    assert OnVersion(anything, None).allows(version)
    assert not OnVersion(anything, None).allows(NOT_THERE)
    assert not OnVersion(None, anything).allows(version)
    assert OnVersion(None, anything).allows(NOT_THERE)
    assert not OnVersion(anything, anything).allows(version)


def test_an_etag_starts_with_the_version_and_changes_with_the_response() -> None:
    one, other = (entity_tag(3, f'{{"availableStock":{left}}}') for left in (1, 2))

    assert one != other
    assert one.startswith('"3-')
    assert OnVersion(parsed(one), None).allows(3)
