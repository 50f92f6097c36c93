"""The examples of the OpenAPI document are real requests and responses of the engine.

RECORD_EXAMPLES=1 records them again for `make openapi`.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from uuid import UUID, uuid5

import pytest

from infra.openapi import examples
from openreserve.domain.webhooks import Message
from openreserve.webhooks import queue
from tests.conftest import Queues
from tests.support import contract
from tests.support.deliveries import deliver_all, endpoint
from tests.support.handlers import Reply, invoke, list_events, sample
from tests.support.receiver import CommandError, Receiver

TOKEN = "550e8400-e29b-41d4-a716-446655440000"
ROOM, SEAT = "hotel-room-101", "concert-seat-floor-A1"
ITEMS = {"items": [{"resourceId": ROOM, "quantity": 1}, {"resourceId": SEAT, "quantity": 1}]}
PAGE = "MTczMi40MQ=="

pytestmark = pytest.mark.usefixtures("engine", "immediate_retries")


class Recorder:
    """Makes calls with unique names, and records the responses under the names of the samples."""

    def __init__(self, name: str) -> None:
        self._names = {ROOM: f"{name}-room", SEAT: f"{name}-seat"}
        self._prefix = name
        self._known: dict[str, str] = {}
        self._numbers = count()
        self.recorded: dict[str, Any] = {}

    def with_unique_names(self, text: str) -> str:
        """The text of a request with unique names."""
        for documented, unique in self._names.items():
            text = text.replace(documented, unique)
        return text

    def call(self, name: str, body: Any = None, *, as_: str = "sample", **where: Any) -> Reply:
        """Make the call of a sample event, with another body or other parameters if given."""
        event = sample(name)
        if body is not None:
            event["body"] = json.dumps(body)
        for place, values in where.items():
            event[place] = event.get(place, {}) | values
        if "idempotency-key" in event["headers"]:
            event["headers"]["idempotency-key"] = f"{self._prefix} {name} {as_}"
        reply = invoke(name, json.loads(self.with_unique_names(json.dumps(event))))
        self.keep(event["routeKey"], reply, as_)
        return reply

    def keep(self, route: str, reply: Reply, as_: str) -> None:
        """Record a response as an example."""
        if reply.text:
            kept = self.recorded.setdefault(contract.operation(route)["operationId"], {})
            answers = kept.setdefault("responses", {}).setdefault(str(reply.status), {})
            answers[as_] = json.loads(self.stable(reply.text))

    def stable(self, text: str) -> str:
        """The text with fixed values for everything that differs between runs."""
        for documented, unique in self._names.items():
            text = text.replace(unique, documented)
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", self._uuid, text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-27T08:05:00.000Z", text)
        text = re.sub(r"whsec_[^\"]+", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", text)
        text = re.sub(r"http://127\.0\.0\.1:\d+", "https://shop.example.com", text)
        text = re.sub(r'"durationMs":[\d.]+', '"durationMs":42.7', text)
        return re.sub(r'"(cursor|nextCursor)":"[^"]+"', rf'"\1":"{PAGE}"', text)

    def _uuid(self, match: re.Match[str]) -> str:
        number = next(self._numbers) if match[0] not in self._known else 0
        replacement = TOKEN if number == 0 else str(uuid5(UUID(TOKEN), str(number)))
        return self._known.setdefault(match[0], replacement)


def record(recorder: Recorder, queues: Queues, receiver: Receiver) -> dict[str, Any]:
    """Every call of the API with its responses."""
    stock(recorder)
    reservations(recorder)
    webhooks(recorder, receiver)
    dead_letters(recorder, queues, receiver)
    recorder.call("health")
    recorder.call("health-of-root")
    recorder.recorded["reserve"]["requests"] = {"items": ITEMS}
    return recorder.recorded


def stock(recorder: Recorder) -> None:
    recorder.call("set-stock", as_="created")
    recorder.call("set-stock", as_="repeated")
    recorder.call("set-stock", headers={"if-match": '"9"'}, as_="changed by another")
    recorder.call("set-stock-of-many")
    recorder.call("adjust-stock")
    recorder.call("read-resource")
    recorder.call("read-resource", pathParameters={"resourceId": "no-such-room"}, as_="unknown")
    recorder.call("list-resources", queryStringParameters={"prefix": ROOM})
    recorder.call("list-resources", queryStringParameters={"limit": "500"}, as_="limit")


def reservations(recorder: Recorder) -> None:
    token = recorder.call("reserve", as_="one resource").json["token"]
    recorder.call("list-reservations")
    recorder.call("read-reservation", pathParameters={"token": token})
    recorder.call("commit", {"token": token})
    recorder.call("release", {"token": token}, as_="committed")
    recorder.call("commit", {"token": TOKEN[:-1] + "1"}, as_="unknown")
    items = recorder.call("reserve", ITEMS, as_="items").json["token"]
    recorder.call("reserve", ITEMS, as_="out of stock")
    recorder.call("reserve", {"resourceId": ROOM, "quantity": 0}, as_="quantity")
    one_day_and_more = {"resourceId": ROOM, "quantity": 1, "ttlSeconds": 90_000}
    recorder.call("reserve", one_day_and_more, as_="ttl")
    recorder.call("release", {"token": items})
    recorder.call("commit", {"token": items}, as_="released")
    events(recorder)


def events(recorder: Recorder) -> None:
    page = list_events(newest="true", limit="200").json
    page["events"] = [
        event for event in page["events"] if event["resourceId"] == recorder.with_unique_names(SEAT)
    ]
    recorder.keep(
        "GET /api/v1/events", Reply(200, {}, json.dumps(page, separators=(",", ":"))), "sample"
    )


def webhooks(recorder: Recorder, receiver: Receiver) -> None:
    body = json.loads(sample("save-endpoint")["body"]) | {"url": f"{receiver.url}/inventory-events"}
    recorder.call("save-endpoint", body, as_="created")
    recorder.call("save-endpoint", body, as_="changed")
    recorder.call("list-endpoints")
    recorder.call("rotate-secret")
    recorder.call("ping-endpoint", as_="delivered")
    receiver.answers["/inventory-events"] = CommandError(503)
    recorder.call("ping-endpoint", as_="refused")
    recorder.call("remove-endpoint")
    recorder.call("remove-endpoint", as_="unknown")


def dead_letters(recorder: Recorder, queues: Queues, receiver: Receiver) -> None:
    endpoint(f"{receiver.url}/inventory-events", "shop")
    event = {
        "id": "0f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "type": "STOCK_DEPLETED",
        "resourceId": recorder.with_unique_names(SEAT),
        "value": 0,
        "timestamp": "2026-03-31T10:47:11.271Z",
        "sequence": 1,
        "tokens": [TOKEN],
    }
    queue.send([Message(json.dumps(event), "shop")])
    deliver_all(queues)
    recorder.call("list-dead-letters")
    recorder.call("resend-dead-letters")


def test_the_examples_are_the_responses_of_the_engine(
    name: str, queues: Queues, receiver: Receiver
) -> None:
    examples_of_run = record(Recorder(name), queues, receiver)
    if os.environ.get("RECORD_EXAMPLES"):
        examples.RECORDED.write_text(json.dumps(examples_of_run, indent=2) + "\n")

    assert examples.recorded() == examples_of_run, (
        "set RECORD_EXAMPLES=1, run this test, then make openapi"
    )


def answers(responses: Mapping[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        for media in contract.resolved(response).get("content", {}).values():
            yield from (status for _ in media.get("examples", ()))


def test_every_response_with_a_body_has_an_example() -> None:
    for route, operation in contract.operations():
        with_body = {
            status
            for status, response in operation["responses"].items()
            if status.startswith("2") and "content" in contract.resolved(response)
        }
        assert with_body <= set(answers(operation["responses"])), route
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], route
