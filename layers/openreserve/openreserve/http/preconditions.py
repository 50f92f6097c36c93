"""The entity tags of If-Match and If-None-Match (RFC 9110, sections 8.8.3 and 13.1). Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

NOT_THERE = 0
"""In place of a version: there is no such resource. The first version is 1."""

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_OF_A_VERSION = re.compile(r'"([1-9]\d{0,17})(?:-[0-9a-f]{12})?"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Tags:
    """What a condition names: `*`, which is whatever there is, or a list of entity tags."""

    anything: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    """As they stand, without the W/."""

    def has(self, tag: str, *, weakly: bool = False) -> bool:
        """Whether this strong tag is named. A weak tag names it only in the weak comparison."""
        return self.anything or tag in self.strong or (weakly and tag in self.weak)

    def has_version(self, version: int, *, weakly: bool = False) -> bool:
        """Whether this version is named. A resource that is not there has none."""
        named = self.anything or version in self.versions(weakly=weakly)
        return version != NOT_THERE and named

    def versions(self, *, weakly: bool = False) -> frozenset[int]:
        """The versions of a resource's total that the tags begin with.

        Raises:
            ValueError: one of them is no tag that this API gives out.
        """
        tags = self.strong | self.weak if weakly else self.strong
        found = [_OF_A_VERSION.fullmatch(tag) for tag in tags]
        if not all(found):
            raise ValueError("is not a tag that this API gives out")
        return frozenset(int(each[1]) for each in found if each)


@dataclass(frozen=True, slots=True)
class OnVersion:
    """What If-Match and If-None-Match ask of the version of a resource's total.

    Only the version counts, not the rest of an ETag: reservations come and go between a read and a
    change of the total, and the change allows for them.
    """

    expected: Tags | None
    unwanted: Tags | None

    def __post_init__(self) -> None:
        """Refuses, with a ValueError, a tag that this API does not give out."""
        for tags in (self.expected, self.unwanted):
            if tags is not None:
                tags.versions(weakly=True)

    def allows(self, version: int) -> bool:
        """Whether the total may be set while it has this version."""
        if self.expected is not None and not self.expected.has_version(version):
            return False
        return self.unwanted is None or not self.unwanted.has_version(version, weakly=True)


def parsed(field: str) -> Tags:
    """The tags in a field. Lines of one name that a gateway has joined are one list.

    Raises:
        ValueError: it is neither `*` nor a list of entity tags.
    """
    if field.strip(" \t") == "*":
        return Tags(anything=True)
    found = list(_listed(field))
    return Tags(
        strong=frozenset(tag for weak, tag in found if not weak),
        weak=frozenset(tag for weak, tag in found if weak),
    )


def entity_tag(version: int, view: str) -> str:
    """The strong tag of a resource's view. It starts with the version, all that a write asks of."""
    return f'"{version}-{blake2b(view.encode(), digest_size=6).hexdigest()}"'


def _listed(field: str) -> Iterator[tuple[bool, str]]:
    """Whether each is weak, and the tag. Empty elements do not count (section 5.6.1.2)."""
    rest = field.strip(" \t,")
    while True:
        found = _TAG.match(rest)
        if found is None:
            raise ValueError("is not a list of entity tags")
        yield found[1] is not None, found[2]
        rest = rest[found.end() :].lstrip(" \t")
        if not rest:
            return
        if not rest.startswith(","):
            raise ValueError("is not a list of entity tags")
        rest = rest.lstrip(" \t,")
