"""Every route of the API: its name, method, path, tag and scopes. Pure.

Handlers, OpenAPI, permissions, docs and the tests' calls are made from these declarations. A test
compares them with `template.yaml`, which SAM must read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_ANY = "ANY"


class Scope(StrEnum):
    """What a caller may do. With IAM, `BuyerPolicy` has RESERVE, and `OperatorPolicy` OPERATE."""

    READ = "openreserve/read"
    RESERVE = "openreserve/reserve"
    OPERATE = "openreserve/operate"


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API."""

    name: str
    """The operation's name: its OpenAPI operationId in camel case, its sample event in events/."""
    method: str
    path: str
    tag: str = ""
    """Its group in the OpenAPI document."""
    scopes: tuple[Scope, ...] = (Scope.OPERATE,)
    """One of them is enough. None: the route needs no credentials."""

    @property
    def key(self) -> str:
        """API Gateway's route key."""
        return self.path if self.method == _ANY else f"{self.method} {self.path}"

    @property
    def keys(self) -> Sequence[str]:
        """The route key, and for GET also that of HEAD, which every path with GET takes."""
        return (self.key, f"HEAD {self.path}") if self.method == "GET" else (self.key,)

    @property
    def methods(self) -> Sequence[str]:
        """The method, and for GET also HEAD."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_API = "/api/v1"
_READERS = (Scope.READ, Scope.RESERVE, Scope.OPERATE)
_HOLDERS = (Scope.RESERVE, Scope.OPERATE)

RESERVE = Route("reserve", "POST", f"{_API}/reserve", "Reservations", (Scope.RESERVE,))
COMMIT = Route("commit", "POST", f"{_API}/commit", "Reservations", (Scope.RESERVE,))
RELEASE = Route("release", "POST", f"{_API}/release", "Reservations", _HOLDERS)
SET_STOCK = Route("set_stock", "POST", f"{_API}/resources", "Stock")
READ_RESOURCE = Route("read_resource", "GET", f"{_API}/resources/{{resourceId}}", "Stock", _READERS)
LIST_RESOURCES = Route("list_resources", "GET", f"{_API}/resources", "Stock", _READERS)
READ_RESERVATION = Route(
    "read_reservation", "GET", f"{_API}/reservations/{{token}}", "Reservations", _HOLDERS
)
LIST_EVENTS = Route("list_events", "GET", f"{_API}/events", "Events")
SAVE_ENDPOINT = Route("save_endpoint", "POST", f"{_API}/webhooks", "Webhooks")
LIST_ENDPOINTS = Route("list_endpoints", "GET", f"{_API}/webhooks", "Webhooks")
REMOVE_ENDPOINT = Route("remove_endpoint", "DELETE", f"{_API}/webhooks/{{endpointId}}", "Webhooks")
ROTATE_SECRET = Route("rotate_secret", "POST", f"{_API}/webhooks/{{endpointId}}/rotate", "Webhooks")
PING_ENDPOINT = Route("ping_endpoint", "POST", f"{_API}/webhooks/{{endpointId}}/ping", "Webhooks")
LIST_DEAD_LETTERS = Route("list_dead_letters", "GET", f"{_API}/dead-letters", "Dead letters")
RESEND_DEAD_LETTERS = Route(
    "resend_dead_letters", "POST", f"{_API}/dead-letters/resend", "Dead letters"
)
HEALTH = Route("health", "GET", f"{_API}/health", "Health", ())
HEALTH_OF_ROOT = Route("health_of_root", "GET", "/health", "Health", ())
SET_STOCK_OF_MANY = Route("set_stock_of_many", "POST", f"{_API}/resources/batch", "Stock")
ADJUST_STOCK = Route("adjust_stock", "POST", f"{_API}/adjustments", "Stock")
LIST_RESERVATIONS = Route("list_reservations", "GET", f"{_API}/reservations", "Reservations")

ROUTES: Sequence[Route] = (
    RESERVE,
    COMMIT,
    RELEASE,
    SET_STOCK,
    READ_RESOURCE,
    LIST_RESOURCES,
    READ_RESERVATION,
    LIST_EVENTS,
    SAVE_ENDPOINT,
    LIST_ENDPOINTS,
    REMOVE_ENDPOINT,
    ROTATE_SECRET,
    PING_ENDPOINT,
    LIST_DEAD_LETTERS,
    RESEND_DEAD_LETTERS,
    HEALTH,
    HEALTH_OF_ROOT,
    SET_STOCK_OF_MANY,
    ADJUST_STOCK,
    LIST_RESERVATIONS,
)
"""In the order of the OpenAPI document."""

EVERYTHING_ELSE = Route("everything_else", _ANY, "$default", scopes=_READERS)
"""Requests that match no other route."""
OPTIONS = Route("options", "OPTIONS", "/{proxy+}", scopes=())
"""Exists only where browsers may call the API. API Gateway answers preflights itself."""


def methods_at(path: str) -> Sequence[str]:
    """The methods that a path takes; empty if the path does not exist."""
    return sorted(
        method
        for route in ROUTES
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
        for method in route.methods
    )
