"""The Idempotency-Key header. Pure.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import re

KEY_LENGTH_MAX = 255

_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def parsed_key(field: str) -> str:
    """The key: what is in a quoted string (RFC 8941), or bare text without a comma.

    API Gateway joins lines of one name with a comma. So a comma outside quotes may mean two keys,
    and a client that repeats the request with one of them would hold twice.

    Raises:
        ValueError: it is neither, or empty, too long or not printable.
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
    found = _QUOTED.fullmatch(text)
    if found is None:
        raise ValueError("is not one key")
    return re.sub(r"\\(.)", r"\1", found[1])


def as_field(key: str) -> str:
    """The header for a key: bare, where that is read as this key, else quoted."""
    if "," not in key and not key.startswith('"') and key == key.strip(" \t"):
        return key
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'
