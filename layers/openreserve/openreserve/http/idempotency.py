"""Parses and writes the Idempotency-Key header. Pure: no I/O.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import re

KEY_LENGTH_MAX = 255

_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def parsed_key(field: str) -> str:
    """The key: the content of a quoted string (RFC 8941), or bare text without a comma.

    API Gateway joins repeated headers with a comma, so a comma outside quotes may mean two keys. A
    client that repeats the request with only one of them would create a second hold.

    Raises:
        ValueError: it is neither, or it is empty, too long or not printable.
    """
    key = field.strip(" \t")
    if key.startswith('"'):
        key = _unquoted(key)
    elif "," in key:
        raise ValueError("is not one key")
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isprintable():
        raise ValueError(f"must have 1 to {KEY_LENGTH_MAX} printable characters")
    return key


def _unquoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    if match is None:
        raise ValueError("is not one key")
    return re.sub(r"\\(.)", r"\1", match[1])


def as_field(key: str) -> str:
    """The header for a key: bare if that is unambiguous, else a quoted string."""
    if "," not in key and not key.startswith('"') and key == key.strip(" \t"):
        return key
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'
