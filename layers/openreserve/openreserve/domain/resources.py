"""Resources and what they are asked for. Pure: no clock, no database, no HTTP."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from unicodedata import normalize

RESOURCE_ID_LENGTH_MAX = 200
TOTAL_STOCK_MAX = 10**12
"""Units. Far above any shop, far below where sums of bigint could overflow."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """Some units of one resource."""

    resource_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing with stock, as it stands: expired holds count as available.

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
    """How many units there shall be of a resource, in all."""

    resource_id: str
    total_stock: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A total that was moved by a difference, and why."""

    resource_id: str
    difference: int
    reason: str
    total_stock: int
    """After it."""
    created_at: datetime


def summed(lines: Iterable[Item]) -> tuple[Item, ...]:
    """The lines with those of one resource added up, in the order in which rows are locked.

    That order is by code point, which for UTF-8 is the byte order of Postgres's collation "C".
    """
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.resource_id] += line.quantity
    return tuple(Item(*entry) for entry in sorted(quantities.items()))


def normalized_resource_id(text: str) -> str:
    """The id that the text stands for: the text in Unicode's form NFC.

    Every way into the engine calls this: bodies, paths, queries, the command line, import files.

    Raises:
        ValueError: the reason why the text is no id, in one line.
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
    """The text in the form NFC, as the beginning of ids. Every id begins with the empty text.

    Raises:
        ValueError: no id begins like this.
    """
    prefix = normalize("NFC", text)
    whole = len(prefix) >= RESOURCE_ID_LENGTH_MAX
    normalized_resource_id(prefix if whole else prefix + _ANY_CONTINUATION)
    return prefix


def is_resource_id(text: str) -> bool:
    """Whether the text stands for the id of a resource."""
    try:
        normalized_resource_id(text)
    except ValueError:
        return False
    return True


def _is_printable(text: str) -> bool:
    """Whether no character is a control, a format, a separator, private or unassigned.

    Python's `isprintable` refuses all of those but the space. Two format characters are part of
    ordinary words: the joiners, which Persian, many Indian languages and emoji are written with.
    """
    return text.isprintable() or text.translate(_WITHOUT_JOINERS).isprintable()


_WITHOUT_JOINERS = {0x200C: None, 0x200D: None}
_STRAY_JOINER = re.compile(
    r"""^[\u200c\u200d] | [\u200c\u200d]\Z   # at an end
    | [\u200c\u200d]{2}                      # twice
    | [\0-\x7f][\u200c\u200d][\0-\x7f]       # nothing there is joined
    """,
    re.VERBOSE,
)
"""An invisible character that only makes another id of one that looks the same."""
_ANY_CONTINUATION = "\u5b57"
"""A character that may stand behind any other and that NFC never composes with it."""
