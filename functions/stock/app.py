"""Stock: create, set, read and list it; read a reservation; health; and all that is not there."""

import re
import time
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from openreserve.cache import hints
from openreserve.domain import errors
from openreserve.domain.resources import normalized_resource_id
from openreserve.http import preconditions, routes
from openreserve.http.handler import Answer, Request, condition, lambda_handler, operation
from openreserve.http.preconditions import NOT_THERE, OnVersion
from openreserve.http.schemas.events import EventPage, EventQuery
from openreserve.http.schemas.health import HealthView
from openreserve.http.schemas.reservations import ReservationView
from openreserve.http.schemas.resources import (
    ResourceBody,
    ResourcePage,
    ResourceQuery,
    ResourceView,
)
from openreserve.postgres import events, maintenance, reservations, resources
from openreserve.runtime.settings import settings

_TOKEN = re.compile("[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

CHANGES_MEANWHILE_MAX = 5
"""How often a total may change between the look at its version and the write that expects it."""


@operation(
    routes.SET_STOCK,
    body=ResourceBody,
    headers={
        "If-Match": "ETags of reads: refuse if the total was changed since. `*`: never create.",
        "If-None-Match": "`*`: create, and never change.",
    },
    answers={200: ResourceView, 201: ResourceView},
    sends=("ETag", "Location"),
    refusals=(errors.ConditionInvalid, errors.VersionMismatch, errors.BelowAllocated),
)
def set_stock(request: Request, body: ResourceBody) -> Answer:
    """Create a resource, or set how many units there are of it.

    Reservations stay as they are: `availableStock` moves by the difference. A total below what is
    held and committed is refused.
    """
    created = _set(body, _condition(request))
    hints.stock_returned(body.resource_id)
    view, tag = _read(body.resource_id)
    location = {"location": f"/api/v1/resources/{quote(body.resource_id, safe='')}"}
    return Answer(201 if created else 200, view, {"etag": tag} | location)


@operation(
    routes.READ_RESOURCE,
    headers={
        "If-Match": "ETags of reads: 412 if something changed since.",
        "If-None-Match": "ETags of reads: 304 without a body if nothing changed since.",
    },
    answers={200: ResourceView, 304: None},
    sends=("ETag",),
    refusals=(errors.ResourceNotFound, errors.ConditionInvalid, errors.PreconditionFailed),
)
def read_resource(request: Request) -> Answer:
    """Read a resource.

    As it stands now: the units of expired holds count as available.
    """
    view, tag = _read(request.path_parameters["resourceId"])
    expected = condition(request, "if-match")
    if expected is not None and not expected.has(tag):
        raise errors.PreconditionFailed
    known = condition(request, "if-none-match")
    if known is not None and known.has(tag, weakly=True):
        return Answer(304, headers={"etag": tag}, outcome="unchanged")
    return Answer(200, view, {"etag": tag})


@operation(
    routes.LIST_RESOURCES,
    query=ResourceQuery,
    answers={200: ResourcePage},
    refusals=(errors.QueryInvalid,),
)
def list_resources(_request: Request, query: ResourceQuery) -> Answer:
    """List resources.

    By id, page by page: `nextCursor` of a page is `cursor` of the request for the next.
    """
    found = resources.list_resources(query.prefix, query.after, query.limit + 1)
    page = ResourcePage.of(found[: query.limit], more=len(found) > query.limit)
    return Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


@operation(
    routes.READ_RESERVATION,
    answers={200: ReservationView},
    refusals=(errors.ReservationNotFound,),
)
def read_reservation(request: Request) -> Answer:
    """Read a reservation.

    As it stands now: a hold past `expiresAt` is EXPIRED.
    """
    token = request.path_parameters["token"]
    if not _TOKEN.fullmatch(token):  # UUID() takes braces, underscores and the digits of any script
        raise errors.ReservationNotFound
    view = ReservationView.of(reservations.find_reservation(UUID(token)))
    return Answer(200, view.model_dump_json(by_alias=True, exclude_none=True))


@operation(
    routes.LIST_EVENTS,
    query=EventQuery,
    answers={200: EventPage},
    refusals=(errors.QueryInvalid,),
)
def list_events(_request: Request, query: EventQuery) -> Answer:
    """List events.

    The oldest first, from a cursor on, or the newest. `cursor` of a page is `after` of the request
    for the next, also when the page is empty: later events come behind it.
    """
    after = events.find_place_before_newest(query.limit) if query.newest else query.place
    page = EventPage.of(events.list_events(after, query.limit), after)
    return Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


@operation(
    routes.HEALTH,
    routes.HEALTH_OF_ROOT,
    answers={200: HealthView, 503: HealthView},
)
def health(_request: Request) -> Answer:
    """Read the health of the service.

    Whether Postgres and Redis answer. Without Redis everything works, but slower: `degraded`. Each
    environment asks them at most once a second: anonymous callers cannot load them.
    """
    view = _health.view()
    return Answer(
        503 if view.status == "unavailable" else 200,
        view.model_dump_json(by_alias=True),
        outcome=view.status,
    )


@dataclass(slots=True)
class _Health:
    """What the servers answered last, for `health_cache_ms`."""

    last: HealthView | None = None
    until: float = 0.0

    def view(self) -> HealthView:
        """The last answer, or a new one if it is over."""
        if self.last is None or time.monotonic() >= self.until:
            self.last = self._ask()
            self.until = time.monotonic() + settings().health_cache_ms / 1_000
        return self.last

    def _ask(self) -> HealthView:
        redis = {True: "ok", False: "unavailable", None: "not configured"}[hints.ping()]
        try:
            maintenance.ping()
        except errors.Fault:
            return HealthView(status="unavailable", postgres="unavailable", redis=redis)
        status = "degraded" if redis == "unavailable" else "ok"
        return HealthView(status=status, postgres="ok", redis=redis)


_health = _Health()


@operation(
    routes.EVERYTHING_ELSE,
    routes.OPTIONS,
    answers={},
    refusals=(errors.MethodNotAllowed, errors.RouteNotFound),
)
def refuse(request: Request) -> Answer:
    """Say that there is nothing at this path, or which methods it takes."""
    allowed = routes.methods_at(request.path)
    # A method that is allowed comes here only where a segment has an encoded slash, which the path
    # shows decoded: /api/v1/resources%2Fx.
    if allowed and request.method not in allowed:
        raise errors.MethodNotAllowed(method=request.method, allow=allowed)
    raise errors.RouteNotFound


def _condition(request: Request) -> OnVersion | None:
    """What If-Match and If-None-Match ask of the version; None: there is neither."""
    expected = condition(request, "if-match")
    unwanted = condition(request, "if-none-match")
    if expected is None and unwanted is None:
        return None
    try:
        return OnVersion(expected, unwanted)
    except ValueError:
        raise errors.ConditionInvalid from None


def _set(body: ResourceBody, condition: OnVersion | None) -> bool:
    """Set the total, if the condition allows it, and return whether that created the resource."""
    if condition is None:
        return resources.set_stock(body.resource_id, body.total_stock, None)
    version = _version(body.resource_id)
    for _ in range(CHANGES_MEANWHILE_MAX):
        if not condition.allows(version):
            raise errors.VersionMismatch(version=version or None)
        try:
            return resources.set_stock(body.resource_id, body.total_stock, version)
        except errors.VersionMismatch as changed:  # since it was read
            version = changed.details["version"] or NOT_THERE
    raise errors.Contention


def _version(resource_id: str) -> int:
    try:
        return resources.find_resource(resource_id).version
    except errors.ResourceNotFound:
        return NOT_THERE


def _read(resource_id: str) -> tuple[str, str]:
    """The view of a resource, and its ETag."""
    try:
        resource = resources.find_resource(normalized_resource_id(resource_id))
    except ValueError:
        raise errors.ResourceNotFound(resourceId=resource_id) from None
    view = ResourceView.of(resource).model_dump_json(by_alias=True)
    return view, preconditions.entity_tag(resource.version, view)


handler = lambda_handler(
    set_stock, read_resource, list_resources, read_reservation, list_events, health, refuse
)
