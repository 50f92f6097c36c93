"""Events are delivered to each subscribed endpoint, signed, under their ids."""

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from infra.local.aws import Aws
from openreserve.domain.webhooks import Message
from openreserve.webhooks import endpoints, outbox, queue, sender
from tests.conftest import Engine, Queues, forget
from tests.support.deliveries import (
    ATTEMPTS_MAX,
    addressed,
    deliver,
    deliver_all,
    endpoint,
    event,
    rotate,
)
from tests.support.handlers import event_pages, hold, release, set_stock
from tests.support.receiver import CommandError, Receiver


def test_an_event_is_sent_to_each_subscribed_endpoint_in_its_own_message_group(
    queues: Queues, receiver: Receiver
) -> None:
    endpoint(f"{receiver.url}/all", "all")
    endpoint(f"{receiver.url}/sold-out", "sold-out", "STOCK_DEPLETED", "RESERVATION_HELD")
    endpoint(f"{receiver.url}/back", "back", "STOCK_RESTORED")
    endpoint(f"{receiver.url}/off", "off")
    endpoints.disable("off", "the test says so")
    content = event("STOCK_DEPLETED")
    queue.send([Message(content)])

    deliver(queues)

    waiting = queues.messages()
    assert addressed(waiting) == [("all", content), ("sold-out", content)]
    assert receiver.received == []
    queue.send(
        [Message(content, m["MessageAttributes"]["endpointId"]["StringValue"]) for m in waiting]
    )
    deliver_all(queues)
    assert sorted(each.path for each in receiver.received) == ["/all", "/sold-out"]


@pytest.mark.usefixtures("engine")
def test_a_delivery_has_the_same_bytes_as_the_pulled_event(
    queues: Queues, receiver: Receiver, engine: Engine, name: str
) -> None:
    engine.sql("UPDATE openreserve.events SET hand_on_after = NULL")
    secret = endpoint(f"{receiver.url}/")
    set_stock(name, 1)
    release(hold((name, 1)))
    outbox.publish()

    deliver_all(queues)

    depleted, restored = sorted(
        receiver.received, key=lambda each: json.loads(each.content)["sequence"]
    )
    pages = [page.text for page in event_pages()]
    for each, event_type in ((depleted, "STOCK_DEPLETED"), (restored, "STOCK_RESTORED")):
        assert any(each.content.decode() in page for page in pages)
        assert json.loads(each.content)["type"] == event_type
        assert json.loads(each.content)["id"] == each.id
        assert each.headers["content-type"] == "application/json"
        assert each.is_signed_with(secret)


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/New_York"])
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The library interprets a naive time as UTC in every time zone of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_zone")
def test_a_delivery_verifies_in_any_time_zone(queues: Queues, receiver: Receiver) -> None:
    secret = endpoint(f"{receiver.url}/")
    queue.send([Message(event())])

    deliver_all(queues)

    (delivery,) = receiver.received
    assert delivery.is_signed_with(secret)
    assert not delivery.is_signed_with(endpoints.new_secret())


def test_during_a_rotation_only_the_new_and_the_previous_secret_are_valid(
    queues: Queues, receiver: Receiver, own_aws: Aws, name: str
) -> None:
    secrets = [endpoint(f"{receiver.url}/"), rotate()]
    queue.send([Message(event())])
    deliver_all(queues)
    secrets.append(rotate())
    queue.send([Message(event())])
    deliver_all(queues)

    first, second = receiver.received
    assert [first.is_signed_with(secret) for secret in secrets] == [True, True, False]
    assert [second.is_signed_with(secret) for secret in secrets] == [False, True, True]
    stored = own_aws.client("secretsmanager").get_secret_value(SecretId=f"{name}/shop")
    assert json.loads(stored["SecretString"])["secrets"] == secrets[:0:-1], "the newest first"


class Clock:
    """A clock that advances by a minute on each read."""

    def __init__(self) -> None:
        self._minutes = count(-3)

    def now(self, zone: Any) -> datetime:
        return datetime.now(zone) + timedelta(minutes=next(self._minutes))


def test_retries_keep_the_id_and_have_the_timestamp_of_the_attempt(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    monkeypatch.setattr(sender, "datetime", Clock())
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "0,0")
    forget()
    queue.send([Message(event())])

    deliver_all(queues)

    assert len(receiver.received) == ATTEMPTS_MAX
    assert len({(each.id, each.content) for each in receiver.received}) == 1
    timestamps = [int(each.headers["webhook-timestamp"]) for each in receiver.received]
    assert timestamps == sorted(set(timestamps))
    assert all(each.is_signed_with(secret) for each in receiver.received)


def test_duplicates_have_the_same_id(queues: Queues, receiver: Receiver) -> None:
    endpoint(f"{receiver.url}/")
    queue.send([Message(event())] * 2)

    deliver_all(queues)

    first, second = receiver.received
    assert first.id == second.id == json.loads(first.content)["id"]
