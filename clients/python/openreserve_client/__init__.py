"""Python client of the OpenReserve API.

from openreserve_client import Client

with Client("http://localhost:8080") as client:
    with client.hold("hotel-room-101") as hold:
        charge_customer()
        hold.commit()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openreserve_client.client import Client, Hold
    from openreserve_client.errors import NotAnswered, OpenReserveError
    from openreserve_client.models import (
        Adjustment,
        Event,
        EventPage,
        Health,
        Item,
        Reservation,
        Resource,
        RowResult,
        Status,
    )
    from openreserve_client.webhooks import InvalidSignature, verify_webhook

__version__ = "0.1.0"

__all__ = [
    "Adjustment",
    "Client",
    "Event",
    "EventPage",
    "Health",
    "Hold",
    "InvalidSignature",
    "Item",
    "NotAnswered",
    "OpenReserveError",
    "Reservation",
    "Resource",
    "RowResult",
    "Status",
    "verify_webhook",
]

_MODULES = {
    "client": ("Client", "Hold"),
    "errors": ("NotAnswered", "OpenReserveError"),
    "webhooks": ("InvalidSignature", "verify_webhook"),
}
"""Where the exported names are defined. All others are in `models`."""


def __getattr__(name: str) -> Any:
    """Import an exported name on first use (PEP 562), so that the command line starts quickly."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "models")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
