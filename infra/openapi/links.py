"""Links: which calls can follow an answer, and with which of its values.

None has a body: openapi-generator refuses a document with one that is not a text.
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
    """What can follow a success of an operation."""
    following = _LINKS.get(operation_id, {})
    return {name: {"operationId": name, **how} for name, how in following.items()}
