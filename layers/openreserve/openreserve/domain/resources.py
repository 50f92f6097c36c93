"""Resources, their ids and their stock. Pure: no clock, no I/O."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from unicodedata import normalize

RESOURCE_ID_LENGTH_MAX = 200
TOTAL_STOCK_MAX = 10**12
"""Units. Far above any real stock, and far below the overflow of a sum of bigint."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """A quantity of one resource."""

    resource_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource and its stock. The units of expired holds are available.

    total_stock = available_stock + held_stock + committed_stock, each at least 0.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    held_stock: int
    committed_stock: int
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Total:
    """A total to set for a resource."""

    resource_id: str
    total_stock: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A change of a total by a difference, with its reason."""

    resource_id: str
    difference: int
    reason: str
    total_stock: int
    """The total after the adjustment."""
    created_at: datetime


def summed(lines: Iterable[Item]) -> tuple[Item, ...]:
    """One item per resource, with the quantities of its lines added up, in the lock order.

    The lock order is by code point, which for UTF-8 is the byte order of Postgres's collation "C".
    """
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.resource_id] += line.quantity
    return tuple(Item(*entry) for entry in sorted(quantities.items()))


def normalized_resource_id(text: str) -> str:
    """The text in Unicode normalization form NFC, validated as a resource id.

    All input goes through this: bodies, paths, queries, the command line, import files.

    Raises:
        ValueError: the text is not a valid id; the message is one line.
    """
    resource_id = text if text.isascii() else normalize("NFC", text)
    if not 1 <= len(resource_id) <= RESOURCE_ID_LENGTH_MAX:
        raise ValueError(f"must have 1 to {RESOURCE_ID_LENGTH_MAX} characters")
    if "/" in resource_id or not _is_printable(resource_id):
        raise ValueError("must have printable characters only, and no slash")
    if resource_id in (".", ".."):  # clients resolve such a path segment before they send it
        raise ValueError("must not be . or ..")
    if resource_id[0] == " " or resource_id[-1] == " ":
        raise ValueError("must not begin or end with a space")
    if not resource_id.isascii() and _STRAY_JOINER.search(resource_id):
        raise ValueError("must have U+200C and U+200D only where they join other characters")
    return resource_id


def normalized_prefix(text: str) -> str:
    """The text in NFC, validated as a prefix of resource ids. The empty prefix is valid.

    Raises:
        ValueError: no valid id has this prefix.
    """
    prefix = normalize("NFC", text)
    is_full_length = len(prefix) >= RESOURCE_ID_LENGTH_MAX
    normalized_resource_id(prefix if is_full_length else prefix + _ANY_CONTINUATION)
    return prefix


def is_resource_id(text: str) -> bool:
    """Whether the text is a valid resource id."""
    try:
        normalized_resource_id(text)
    except ValueError:
        return False
    return True


def _is_printable(text: str) -> bool:
    """Whether the text has no control, format, separator, private or unassigned character.

    Python's `isprintable` rejects all of these except the space. Two format characters are valid in
    words: the joiners U+200C and U+200D, used in Persian, many Indian languages and emoji.
    """
    return text.isprintable() or text.translate(_WITHOUT_JOINERS).isprintable()


_WITHOUT_JOINERS = {0x200C: None, 0x200D: None}
_STRAY_JOINER = re.compile(
    r"""^[\u200c\u200d] | [\u200c\u200d]\Z   # at the start or end
    | [\u200c\u200d]{2}                      # twice in a row
    | [\0-\x7f][\u200c\u200d][\0-\x7f]       # between ASCII characters, which do not join
    """,
    re.VERBOSE,
)
"""A joiner without effect on the text: it would make two ids that look the same."""
_ANY_CONTINUATION = "\u5b57"
"""A character that may follow any other, and that NFC never composes with the one before it."""
