"""Parses JSON strictly: only documents with one interpretation (RFC 8259, RFC 7493). Pure: no I/O.

Python's parser accepts duplicate members, NaN, encodings other than UTF-8 and lone surrogates.
Different programs may interpret such a document differently.
"""

import json
from typing import Any

_EXACT_MAX = 2**53
"""Up to this value a float represents every integer exactly."""


def parsed(content: bytes) -> Any:
    """The document. A number without a fraction is an integer in any notation: 1.0, 1e3.

    Raises:
        ValueError: it is not JSON in UTF-8, or an object has a duplicate member.
    """
    text = content.decode()
    try:
        document = _DECODER.decode(text)
        if "\\u" in text:  # a lone surrogate can be escaped, but not encoded in UTF-8
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a duplicate member")
    return members


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= _EXACT_MAX else number


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse)
