"""Links: the calls that can follow a response, and the values that they take from it.

No link has a request body: openapi-generator rejects documents with a body that is not a string.
"""

from collections.abc import Mapping
from typing import Any

_TOKEN = "$response.body#/token"  # noqa: S105 - a runtime expression
_RESOURCE = "$response.body#/resourceId"
_LINKS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "reserve": {
        "readReservation": {"parameters": {"token": _TOKEN}},
    },
    "setStock": {
        "readResource": {"parameters": {"resourceId": _RESOURCE}},
    },
    "saveEndpoint": {
        name: {"parameters": {"endpointId": "$response.body#/endpointId"}}
        for name in ("pingEndpoint", "rotateSecret", "removeEndpoint")
    },
}


def links(operation_id: str) -> dict[str, Any]:
    """The links of a successful response."""
    following = _LINKS.get(operation_id, {})
    return {name: {"operationId": name, **link} for name, link in following.items()}
