"""Entity tags in If-Match and If-None-Match (RFC 9110, sections 8.8.3 and 13.1). Pure: no I/O."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

NOT_THERE = 0
"""The version of a resource that does not exist. The first version is 1."""

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_VERSION_TAG = re.compile(r'"([1-9]\d{0,17})(?:-[0-9a-f]{12})?"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Tags:
    """The value of a condition: `*`, which matches any existing resource, or a list of tags."""

    anything: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    """Without the W/."""

    def has(self, tag: str, *, weakly: bool = False) -> bool:
        """Whether this strong tag matches. Weak tags match only in the weak comparison."""
        return self.anything or tag in self.strong or (weakly and tag in self.weak)

    def has_version(self, version: int, *, weakly: bool = False) -> bool:
        """Whether this version matches. A resource that does not exist never matches."""
        matches = self.anything or version in self.versions(weakly=weakly)
        return version != NOT_THERE and matches

    def versions(self, *, weakly: bool = False) -> frozenset[int]:
        """The versions of a resource's total in the tags.

        Raises:
            ValueError: a tag was not issued by this API.
        """
        tags = self.strong | self.weak if weakly else self.strong
        matches = [_VERSION_TAG.fullmatch(tag) for tag in tags]
        if not all(matches):
            raise ValueError("is not a tag that this API issues")
        return frozenset(int(match[1]) for match in matches if match)


@dataclass(frozen=True, slots=True)
class OnVersion:
    """The condition of If-Match and If-None-Match on the version of a resource's total.

    Only the version in the ETag counts: reservations change between a read and a change of the
    total, and do not conflict with it.
    """

    expected: Tags | None
    unwanted: Tags | None

    def __post_init__(self) -> None:
        """Raise ValueError if a tag was not issued by this API."""
        for tags in (self.expected, self.unwanted):
            if tags is not None:
                tags.versions(weakly=True)

    def allows(self, version: int) -> bool:
        """Whether the total may be set at this version."""
        if self.expected is not None and not self.expected.has_version(version):
            return False
        return self.unwanted is None or not self.unwanted.has_version(version, weakly=True)


def parsed(field: str) -> Tags:
    """The tags in a header field. Repeated headers, joined by the gateway, are one list.

    Raises:
        ValueError: it is neither `*` nor a list of entity tags.
    """
    if field.strip(" \t") == "*":
        return Tags(anything=True)
    tags = list(_listed(field))
    return Tags(
        strong=frozenset(tag for is_weak, tag in tags if not is_weak),
        weak=frozenset(tag for is_weak, tag in tags if is_weak),
    )


def entity_tag(version: int, view: str) -> str:
    """The strong tag of a resource's view. It starts with the version, which writes compare."""
    return f'"{version}-{blake2b(view.encode(), digest_size=6).hexdigest()}"'


def _listed(field: str) -> Iterator[tuple[bool, str]]:
    """Whether each tag is weak, and the tag. Empty elements are ignored (section 5.6.1.2)."""
    rest = field.strip(" \t,")
    while True:
        match = _TAG.match(rest)
        if match is None:
            raise ValueError("is not a list of entity tags")
        yield match[1] is not None, match[2]
        rest = rest[match.end() :].lstrip(" \t")
        if not rest:
            return
        if not rest.startswith(","):
            raise ValueError("is not a list of entity tags")
        rest = rest.lstrip(" \t,")
