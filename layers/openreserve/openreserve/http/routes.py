"""The paths of the API and the methods that each takes. Pure.

A function sees only its own routes; whoever answers for all the rest needs this table. A test
compares it with template.yaml and with the handlers.
"""

import re
from collections.abc import Mapping, Sequence

ROUTES: Mapping[str, Sequence[str]] = {
    "/api/v1/reserve": ("POST",),
    "/api/v1/commit": ("POST",),
    "/api/v1/release": ("POST",),
    "/api/v1/resources": ("GET", "POST"),
    "/api/v1/resources/{resourceId}": ("GET",),
    "/api/v1/resources/batch": ("POST",),
    "/api/v1/adjustments": ("POST",),
    "/api/v1/reservations": ("GET",),
    "/api/v1/reservations/{token}": ("GET",),
    "/api/v1/events": ("GET",),
    "/api/v1/webhooks": ("GET", "POST"),
    "/api/v1/webhooks/{endpointId}": ("DELETE",),
    "/api/v1/webhooks/{endpointId}/rotate": ("POST",),
    "/api/v1/webhooks/{endpointId}/ping": ("POST",),
    "/api/v1/dead-letters": ("GET",),
    "/api/v1/dead-letters/resend": ("POST",),
    "/api/v1/health": ("GET",),
    "/health": ("GET",),
}
"""Each path that takes GET takes HEAD, too."""

EVERYTHING_ELSE = "$default"
"""API Gateway's key for requests that match no other route."""
OPTIONS = "OPTIONS /{proxy+}"
"""Its key for OPTIONS, where browsers may call the API; preflights do not get here."""


def methods_at(path: str) -> Sequence[str]:
    """The methods that a path takes; empty, if there is nothing at the path."""
    return tuple(
        taken
        for template, methods in ROUTES.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for method in methods
        for taken in with_head(method)
    )


def with_head(route: str) -> Sequence[str]:
    """A method or a route key; if it is GET's, that of HEAD, too."""
    return (route, route.replace("GET", "HEAD", 1)) if route.startswith("GET") else (route,)
