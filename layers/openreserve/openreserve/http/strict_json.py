"""Reads JSON that has one meaning only (RFC 8259, with the rules of RFC 7493). Pure.

Python's own reader keeps the last of two members of one name, and takes NaN, other encodings than
UTF-8 and halves of surrogate pairs. Two programs that read such a document may read two things.
"""

import json
from typing import Any

_EXACT_MAX = 2**53
"""Up to here every integer has a float of its own."""


def parsed(content: bytes) -> Any:
    """The document. A number without a fraction is an integer, however it is written: 1.0, 1e3.

    Raises:
        ValueError: it is not JSON in UTF-8, or an object in it names a member twice.
    """
    text = content.decode()
    try:
        document = _DECODER.decode(text)
        if "\\u" in text:  # half a surrogate pair can be escaped, and no UTF-8 can have it
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= _EXACT_MAX else number


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse)
