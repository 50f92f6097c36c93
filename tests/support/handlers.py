"""Invokes the handlers as API Gateway does, with the sample events of events/."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.openapi.operations import handlers
from openreserve.http.routes import EVERYTHING_ELSE, ROUTES
from tests.support import contract

EVENTS = Path(__file__).parents[2] / "events"

HANDLERS = {
    route.name.replace("_", "-"): handler
    for route, handler in handlers().items()
    if route in (*ROUTES, EVERYTHING_ELSE)
}
"""By the names of the sample events."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The `code` of the problem document; "ok" for a success."""
        return str(self.json.get("code", "ok")) if self.text else "ok"


@cache
def _sample(name: str) -> str:
    return (EVENTS / f"{name}.json").read_text()


def sample(name: str) -> dict[str, Any]:
    """A copy of the sample event events/<name>.json, which the caller may change."""
    event: dict[str, Any] = json.loads(_sample(name))
    return event


def call(name: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Reply:
    """Invoke the handler of events/<name>.json with this body and these additional headers."""
    event = sample(name)
    if body is not None:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    event["headers"] |= headers or {}
    return invoke(name, event)


def invoke(name: str, event: Mapping[str, Any]) -> Reply:
    answer = HANDLERS[name](event, None)
    contract.check(event["routeKey"], answer)
    return Reply(answer["statusCode"], answer["headers"], answer["body"])


def set_stock(resource_id: str, total_stock: int, **headers: str) -> Reply:
    body = {"resourceId": resource_id, "totalStock": total_stock}
    return call("set-stock", body, headers=headers)


def reserve(*items: tuple[str, int], key: str = "", ttl_seconds: int | None = None) -> Reply:
    lines = [{"resourceId": resource_id, "quantity": units} for resource_id, units in items]
    body: dict[str, Any] = lines[0] if len(lines) == 1 else {"items": lines}
    if ttl_seconds is not None:
        body["ttlSeconds"] = ttl_seconds
    return call("reserve", body, headers={"idempotency-key": key or str(uuid4())})


def hold(*items: tuple[str, int], ttl_seconds: int | None = None) -> str:
    """Reserve, and return the token."""
    reply = reserve(*items, ttl_seconds=ttl_seconds)
    assert reply.status == 200, reply
    return str(reply.json["token"])


def commit(token: str, *, reacquire: bool = False) -> Reply:
    extra = {"ifExpired": "reacquire"} if reacquire else {}
    return call("commit", {"token": token, **extra})


def release(token: str) -> Reply:
    return call("release", {"token": token})


def read_reservation(token: str) -> Reply:
    event = sample("read-reservation")
    event["pathParameters"]["token"] = token
    return invoke("read-reservation", event)


def read_resource(resource_id: str, **headers: str) -> Reply:
    event = sample("read-resource")
    event["pathParameters"]["resourceId"] = resource_id
    event["headers"] |= headers
    return invoke("read-resource", event)


def list_resources(**query: str) -> Reply:
    event = sample("list-resources")
    event["queryStringParameters"] = query
    return invoke("list-resources", event)


def list_events(**query: str) -> Reply:
    event = sample("list-events")
    event["queryStringParameters"] = query
    return invoke("list-events", event)


def event_pages() -> Iterator[Reply]:
    """All pages of GET /api/v1/events."""
    after = ""
    while (page := list_events(limit="200", after=after)).json["events"]:
        yield page
        after = page.json["cursor"]


def set_stock_of_many(*rows: tuple[Any, Any]) -> Reply:
    resources = [{"resourceId": resource_id, "totalStock": total} for resource_id, total in rows]
    return call("set-stock-of-many", {"resources": resources})


def adjust_stock(
    resource_id: str, difference: int, *, key: str = "", reason: str = "counted"
) -> Reply:
    body = {"resourceId": resource_id, "difference": difference, "reason": reason}
    return call("adjust-stock", body, headers={"idempotency-key": key or str(uuid4())})


def list_reservations(**query: str) -> Reply:
    event = sample("list-reservations")
    event["queryStringParameters"] = query
    return invoke("list-reservations", event)


class Context:
    """The context object that Lambda passes to a handler."""

    def __init__(self, remaining_ms: int = 60_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


def available(resource_id: str) -> int:
    return int(read_resource(resource_id).json["availableStock"])
