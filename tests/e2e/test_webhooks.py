"""From an expired hold to a signed webhook at a receiver, under the local runtime."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from tests.e2e.runtime import Runtime, started
from tests.support.receiver import CommandError, Received, Receiver

SECONDS_MAX = 120


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    parameters = ["WebhookRetrySeconds=1,1", "WebhookTimeoutSeconds=1"]
    options = [word for parameter in parameters for word in ("--parameter", parameter)]
    with started(tmp_path_factory.mktemp("webhooks"), *options) as runtime:
        yield runtime


def save(runtime: Runtime, endpoint_id: str, url: str, *events: str) -> str:
    """Create an endpoint, and return its secret."""
    body = {"endpointId": endpoint_id, "url": url, "events": list(events)}
    reply = runtime.call("POST", "/api/v1/webhooks", body)
    assert reply.status == 201, reply
    time.sleep(1.1)  # the endpoint cache of the webhook function expires
    return str(reply.json["secret"])


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def hold(runtime: Runtime, resource_id: str, ttl_seconds: int) -> Any:
    body = {"resourceId": resource_id, "quantity": 1, "ttlSeconds": ttl_seconds}
    headers = {"Idempotency-Key": f"{resource_id}-{time.monotonic_ns()}"}
    reply = runtime.call("POST", "/api/v1/reserve", body, headers)
    assert reply.status == 200, reply
    return reply.json


def about(delivery: Received, event_type: str, resource_id: str) -> bool:
    return event_type.encode() in delivery.content and resource_id.encode() in delivery.content


def test_an_expired_hold_returns_its_stock_and_sends_a_signed_webhook(
    runtime: Runtime, receiver: Receiver, name: str
) -> None:
    secret = save(runtime, name, f"{receiver.url}/hook")
    runtime.set_stock(name, 1)
    token = hold(runtime, name, 2)["token"]
    until(lambda: any(about(got, "STOCK_RESTORED", name) for got in receiver.received))

    reservation = runtime.call("GET", f"/api/v1/reservations/{token}").json
    depleted, restored = (
        next(got for got in receiver.received if about(got, kind, name))
        for kind in ("STOCK_DEPLETED", "STOCK_RESTORED")
    )

    assert reservation["status"] == "EXPIRED"
    assert runtime.stock(name)["availableStock"] == 1
    event = restored.verified(secret)
    assert {key: event[key] for key in ("type", "resourceId", "value", "sequence", "tokens")} == {
        "type": "STOCK_RESTORED",
        "resourceId": name,
        "value": 1,
        "sequence": 2,
        "tokens": [token],
    }
    assert event["id"] == restored.id != depleted.id
    assert depleted.verified(secret)["value"] == 0
    with pytest.raises(WebhookVerificationError):
        restored.verified("whsec_" + "A" * 32)


def test_dead_letters_can_be_listed_and_resent(
    runtime: Runtime, receiver: Receiver, name: str
) -> None:
    well = threading.Event()
    receiver.answers["/ill"] = lambda _: CommandError(204 if well.is_set() else 500)
    save(runtime, name, f"{receiver.url}/ill", "STOCK_DEPLETED")
    runtime.set_stock(name, 1)
    hold(runtime, name, 600)

    def dead() -> list[Any]:
        listed = runtime.call("GET", "/api/v1/dead-letters").json["deadLetters"]
        return [letter for letter in listed if letter["endpointId"] == name]

    until(dead)
    (letter,) = dead()
    assert letter["event"]["resourceId"] == name
    (event_id,) = receiver.ids("/ill")
    assert letter["event"]["id"] == event_id
    assert receiver.ids("/ill")[event_id] == 3, "its attempts"

    well.set()
    resent = runtime.call("POST", "/api/v1/dead-letters/resend", {"endpointId": name}).json
    until(lambda: receiver.ids("/ill")[event_id] == 4)
    assert resent == {"resent": 1}
    assert dead() == []


def test_a_ping_returns_the_response_of_the_endpoint(
    runtime: Runtime, receiver: Receiver, name: str
) -> None:
    secret = save(runtime, name, f"{receiver.url}/ping")

    pinged = runtime.call("POST", f"/api/v1/webhooks/{name}/ping").json

    assert (pinged["delivered"], pinged["status"]) == (True, 204)
    assert receiver.received[-1].verified(secret)["type"] == "PING"
    assert receiver.received[-1].id == pinged["id"]


def test_endpoints_survive_a_restart(tmp_path: Path, receiver: Receiver, name: str) -> None:
    with started(tmp_path) as first:
        secret = save(first, name, f"{receiver.url}/again", "STOCK_RESTORED")
        assert first.stop() == 0
    with started(tmp_path) as second:
        (endpoint,) = second.call("GET", "/api/v1/webhooks").json["webhooks"]
        second.call("POST", f"/api/v1/webhooks/{name}/ping")

    assert endpoint == {
        "endpointId": name,
        "url": f"{receiver.url}/again",
        "events": ["STOCK_RESTORED"],
    }
    assert receiver.received[-1].verified(secret)
