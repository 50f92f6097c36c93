"""Stock: create, set, read and list it; read a reservation; health; and all that is not there."""

from uuid import UUID

from openreserve import api, cache, errors, ledger, routes
from openreserve.stock import is_resource_id
from openreserve.views import (
    EventPage,
    EventQuery,
    HealthView,
    ReservationView,
    ResourceBody,
    ResourcePage,
    ResourceQuery,
    ResourceView,
)


@api.operation(
    "POST /api/v1/resources",
    tag="Stock",
    body=ResourceBody,
    headers={"If-Match": "The ETag of a read: refuse if the total was changed since."},
    answers={200: ResourceView, 201: ResourceView},
    sends=("ETag", "Location"),
    refusals=(errors.ConditionInvalid, errors.VersionMismatch, errors.BelowAllocated),
)
def set_stock(request: api.Request, body: ResourceBody) -> api.Answer:
    """Create a resource, or set how many units there are of it.

    Reservations stay as they are: `availableStock` moves by the difference. A total below what is
    held and committed is refused.
    """
    version = api.expected_version(request)
    created = ledger.set_stock(body.resource_id, body.total_stock, version)
    cache.stock_returned(body.resource_id)
    view, tag = _read(body.resource_id)
    location = {"location": f"/api/v1/resources/{body.resource_id}"}
    return api.Answer(201 if created else 200, view, {"etag": tag} | location)


@api.operation(
    "GET /api/v1/resources/{resourceId}",
    tag="Stock",
    headers={"If-None-Match": "The ETag of a read: 304 without a body if nothing changed since."},
    answers={200: ResourceView, 304: None},
    sends=("ETag",),
    refusals=(errors.ResourceUnknown,),
)
def read_resource(request: api.Request) -> api.Answer:
    """Read a resource.

    As it stands now: the units of expired holds count as available.
    """
    view, tag = _read(request.path_parameters["resourceId"])
    if api.unchanged(request, tag):
        return api.Answer(304, headers={"etag": tag}, outcome="unchanged")
    return api.Answer(200, view, {"etag": tag})


@api.operation(
    "GET /api/v1/resources",
    tag="Stock",
    query=ResourceQuery,
    answers={200: ResourcePage},
    refusals=(errors.QueryInvalid,),
)
def list_resources(_request: api.Request, query: ResourceQuery) -> api.Answer:
    """List resources.

    By id, page by page: `nextCursor` of a page is `cursor` of the request for the next.
    """
    found = ledger.list_resources(query.prefix, query.after, query.limit + 1)
    page = ResourcePage.of(found[: query.limit], more=len(found) > query.limit)
    return api.Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


@api.operation(
    "GET /api/v1/reservations/{token}",
    tag="Reservations",
    answers={200: ReservationView},
    refusals=(errors.ReservationUnknown,),
)
def read_reservation(request: api.Request) -> api.Answer:
    """Read a reservation.

    As it stands now: a hold past `expiresAt` is EXPIRED.
    """
    try:
        token = UUID(request.path_parameters["token"])
    except ValueError:
        raise errors.ReservationUnknown from None
    view = ReservationView.of(ledger.find_reservation(token))
    return api.Answer(200, view.model_dump_json(by_alias=True, exclude_none=True))


@api.operation(
    "GET /api/v1/events",
    tag="Events",
    query=EventQuery,
    answers={200: EventPage},
    refusals=(errors.QueryInvalid,),
)
def list_events(_request: api.Request, query: EventQuery) -> api.Answer:
    """List events.

    The oldest first, from a cursor on, or the newest. `cursor` of a page is `after` of the request
    for the next, also when the page is empty: later events come behind it.
    """
    after = ledger.find_place_before_newest(query.limit) if query.newest else query.place
    page = EventPage.of(ledger.list_events(after, query.limit), after)
    return api.Answer(200, page.model_dump_json(by_alias=True, exclude_none=True))


@api.operation(
    "GET /api/v1/health",
    "GET /health",
    tag="Health",
    answers={200: HealthView, 503: HealthView},
)
def health(_request: api.Request) -> api.Answer:
    """Read the health of the service.

    Whether Postgres and Redis answer. Without Redis everything works, but slower: `degraded`.
    """
    redis = {True: "ok", False: "unavailable", None: "not configured"}[cache.ping()]
    try:
        ledger.ping()
    except errors.Fault:
        view = HealthView(status="unavailable", postgres="unavailable", redis=redis)
        return api.Answer(503, view.model_dump_json(by_alias=True), outcome="unavailable")
    status = "degraded" if redis == "unavailable" else "ok"
    view = HealthView(status=status, postgres="ok", redis=redis)
    return api.Answer(200, view.model_dump_json(by_alias=True), outcome=status)


@api.operation(
    routes.EVERYTHING_ELSE, answers={}, refusals=(errors.MethodNotAllowed, errors.RouteUnknown)
)
def refuse(request: api.Request) -> api.Answer:
    """Say that there is nothing at this path, or which methods it takes."""
    allowed = routes.methods_at(request.path)
    if allowed:
        raise errors.MethodNotAllowed(method=request.method, allow=allowed)
    raise errors.RouteUnknown


def _read(resource_id: str) -> tuple[str, str]:
    """The view of a resource, and its ETag."""
    if not is_resource_id(resource_id):
        raise errors.ResourceUnknown(resourceId=resource_id)
    resource = ledger.find_resource(resource_id)
    view = ResourceView.of(resource).model_dump_json(by_alias=True)
    return view, api.entity_tag(resource.version, view)


handler = api.entry_point(
    set_stock, read_resource, list_resources, read_reservation, list_events, health, refuse
)
