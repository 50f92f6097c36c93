"""Validation of resource ids by the API's rules, before a request is sent. Pure.

A copy of the rules in the server's `openreserve.domain.resources`; a test compares the two.
"""

import re
from unicodedata import normalize

RESOURCE_ID_LENGTH_MAX = 200
TOTAL_STOCK_MAX = 10**12

_WITHOUT_JOINERS = {0x200C: None, 0x200D: None}
_STRAY_JOINER = re.compile(
    r"""^[\u200c\u200d] | [\u200c\u200d]\Z   # at an end
    | [\u200c\u200d]{2}                      # twice
    | [\0-\x7f][\u200c\u200d][\0-\x7f]       # between ASCII characters, which do not join
    """,
    re.VERBOSE,
)
_ANY_CONTINUATION = "\u5b57"
"""A character that NFC never composes with the one before it."""


def normalized_resource_id(text: str) -> str:
    """The id in Unicode form NFC.

    Raises:
        ValueError: the text is not a valid id; the message says why.
    """
    resource_id = text if text.isascii() else normalize("NFC", text)
    if not 1 <= len(resource_id) <= RESOURCE_ID_LENGTH_MAX:
        raise ValueError(f"must have 1 to {RESOURCE_ID_LENGTH_MAX} characters")
    if "/" in resource_id or not _is_printable(resource_id):
        raise ValueError("must have printable characters only, and no slash")
    if resource_id in (".", ".."):  # HTTP clients resolve such a path segment
        raise ValueError("must not be . or ..")
    if resource_id[0] == " " or resource_id[-1] == " ":
        raise ValueError("must not begin or end with a space")
    if not resource_id.isascii() and _STRAY_JOINER.search(resource_id):
        raise ValueError("must have U+200C and U+200D only where they join other characters")
    return resource_id


def normalized_prefix(text: str) -> str:
    """The prefix of an id in Unicode form NFC; it may be empty.

    Raises:
        ValueError: no valid id has this prefix; the message says why.
    """
    prefix = normalize("NFC", text)
    is_full_length = len(prefix) >= RESOURCE_ID_LENGTH_MAX
    normalized_resource_id(prefix if is_full_length else prefix + _ANY_CONTINUATION)
    return prefix


def _is_printable(text: str) -> bool:
    """Like `str.isprintable`, but allows U+200C and U+200D, which many scripts and emoji need."""
    return text.isprintable() or text.translate(_WITHOUT_JOINERS).isprintable()
