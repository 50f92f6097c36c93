"""The outbox: events reach the queue at least once, under one id, despite crashes."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import EndpointConnectionError

from functions.expire import app as expire_app
from functions.reconcile import app as reconcile_app
from infra.local.aws import Aws
from openreserve.cache import hints
from openreserve.domain.webhooks import Message
from openreserve.postgres import events, maintenance
from openreserve.webhooks import outbox, queue
from tests.conftest import Engine, Queues, ask_redis, beside, forget
from tests.support.crowd import Crowd, crowd
from tests.support.handlers import Context, commit, event_pages, hold, release, set_stock
from tests.support.postgres_tap import tapped


@pytest.fixture(autouse=True)
def _no_pending_events(engine: Engine) -> None:
    """Mark the pending events of other tests as published."""
    engine.sql("UPDATE openreserve.events SET hand_on_after = NULL")


def write_events(name: str, times: int) -> None:
    """Writes two events per round: depleted, restored."""
    set_stock(name, 1)
    for _ in range(times):
        release(hold((name, 1)))


def counts_by_id(messages: list[Any]) -> Counter[str]:
    return Counter(json.loads(message["Body"])["id"] for message in messages)


def events_for(name: str) -> list[Any]:
    events = (event for page in event_pages() for event in page.json["events"])
    return [event for event in events if event["resourceId"] == name]


def pulled(name: str) -> set[str]:
    return {event["id"] for event in events_for(name)}


def waiting(engine: Engine) -> int:
    ((count,),) = engine.sql(
        "SELECT count(*) FROM openreserve.events WHERE hand_on_after IS NOT NULL"
    )
    return int(count)


def test_each_event_is_published_once_with_the_bytes_of_a_pull(
    engine: Engine, queues: Queues, name: str
) -> None:
    write_events(name, 12)

    assert [outbox.publish(), outbox.publish()] == [24, 0]

    messages = queues.messages()
    assert counts_by_id(messages) == dict.fromkeys(pulled(name), 1)
    assert waiting(engine) == 0
    bodies = {body["id"]: body for body in (json.loads(m["Body"]) for m in messages)}
    own = events_for(name)
    assert own == [bodies[event["id"]] for event in own]
    assert len(own) == 24


def test_a_crash_between_sending_and_marking_sends_the_same_ids_again(
    engine: Engine, queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(name, 3)
    monkeypatch.setattr(outbox, "CLAIM_SECONDS", 0)
    with monkeypatch.context() as dying:
        dying.setattr(events, "mark_published", crash)
        with pytest.raises(SystemExit):
            outbox.publish()

    while outbox.publish():
        pass

    assert counts_by_id(queues.messages()) == dict.fromkeys(pulled(name), 2)
    assert waiting(engine) == 0


def crash(*_: Any) -> None:
    raise SystemExit


def test_a_claimed_event_cannot_be_claimed_again_until_the_claim_expires(
    engine: Engine, queues: Queues, name: str
) -> None:
    assert queues
    write_events(name, 1)
    first = events.claim_events(30, 10)

    assert len(first) == 2
    assert events.claim_events(30, 10) == []
    engine.sql("UPDATE openreserve.events SET hand_on_after = now() WHERE resource_id = %s", name)
    assert {event.event_id for event, _ in events.claim_events(30, 10)} == {
        event.event_id for event, _ in first
    }


def test_events_that_the_queue_rejects_stay_and_the_others_are_marked(
    engine: Engine, queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SendMessageBatch responds 200 with an outcome for each entry."""
    write_events(name, 6)
    real = queue._sqs()

    class Moody:
        def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> Any:  # noqa: N803
            answer = real.send_message_batch(QueueUrl=QueueUrl, Entries=Entries[1:])
            return answer | {
                "Failed": [{"Id": Entries[0]["Id"], "Code": "InternalError", "SenderFault": False}]
            }

    with monkeypatch.context() as moody:
        moody.setattr(queue, "_sqs", Moody)
        assert outbox.publish() == 12

    assert waiting(engine) == 2, "one of each batch of ten"
    assert len(counts_by_id(queues.messages())) == 10
    engine.sql("UPDATE openreserve.events SET hand_on_after = now() WHERE hand_on_after > now()")
    assert outbox.publish() == 2
    assert len(counts_by_id(queues.messages())) == 2


def test_an_unreachable_queue_only_delays_events(
    engine: Engine, queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(name, 8)

    class Away:
        def send_message_batch(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="https://sqs.example.com")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_sqs", Away)
        assert outbox.publish() == 16

    assert waiting(engine) == 16
    assert queues.messages() == []


def test_without_a_queue_events_can_only_be_pulled(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_QUEUE_URL", raising=False)
    forget()
    write_events(name, 2)

    assert outbox.publish() == 4
    assert waiting(engine) == 0
    assert len(pulled(name)) == 4


def test_an_unpublished_event_is_never_purged(engine: Engine, queues: Queues, name: str) -> None:
    write_events(name, 1)
    engine.sql(
        "UPDATE openreserve.events SET created_at = now() - interval '90 days'"
        " WHERE resource_id = %s",
        name,
    )
    maintenance.purge(1_000)
    waited = pulled(name)

    reconcile_app.handler({}, Context())

    engine.sql("UPDATE openreserve.resources SET event_sequence = 0 WHERE resource_id = %s", name)
    assert len(waited) == 2
    assert waited <= set(counts_by_id(queues.messages()))
    assert pulled(name) == set()


def test_a_batch_is_two_round_trips_and_an_empty_claim_one(
    engine: Engine, queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queues
    write_events(name, 30)
    with tapped(engine.database_url) as wire:
        monkeypatch.setenv("DATABASE_URL", wire.url)
        forget()

        assert outbox.publish() == 60
        assert wire.round_trips == 2
        assert outbox.publish() == 0
        assert wire.round_trips == 3
    forget()


def test_a_batch_of_large_events_is_sent_in_several_calls(queues: Queues) -> None:
    """A call has a limit on the total bytes of its entries."""
    large = [Message(json.dumps({"id": str(n), "text": "x" * 120_000})) for n in range(9)]

    assert queue.send(large) == [True] * 9
    assert counts_by_id(queues.messages()) == {str(n): 1 for n in range(9)}


@pytest.mark.parametrize("verb", ["set_stock", "hold", "commit", "release", "expire"])
@pytest.mark.usefixtures("engine")
def test_every_call_that_may_write_an_event_wakes_the_prompt_path(name: str, verb: str) -> None:
    set_stock(name, 2)
    token = hold((name, 1))
    ask_redis("DEL", hints._key(hints._NEWS))
    verbs: dict[str, Callable[[], object]] = {
        "set_stock": lambda: set_stock(name, 1),
        "hold": lambda: hold((name, 1)),
        "commit": lambda: commit(token),
        "release": lambda: release(token),
        "expire": lambda: hints.forget_holds(UUID(token)),
    }

    verbs[verb]()

    assert ask_redis("LLEN", hints._key(hints._NEWS)) == 1


def test_the_prompt_path_publishes_events_while_it_runs(
    engine: Engine, queues: Queues, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep may also close holds and publish events of other tests."""
    monkeypatch.setenv("EXPIRE_STAY_SECONDS", "3")
    forget()
    handed_on: list[int] = []
    staying = beside(lambda: handed_on.append(expire_app.handler({}, None)["handedOn"]))
    time.sleep(0.5)
    write_events(name, 5)
    staying.join()

    messages = counts_by_id(queues.messages())
    assert handed_on == [messages.total()]
    assert {event_id: messages[event_id] for event_id in pulled(name)} == dict.fromkeys(
        pulled(name), 1
    )
    assert waiting(engine) == 0


@pytest.fixture(scope="module")
def relays(servers: Engine) -> Iterator[Crowd]:
    with crowd(servers, 4) as relays:
        yield relays


def relay(variables: dict[str, str]) -> int:
    os.environ.update(variables)
    forget()
    handed_on = 0
    while batch := outbox.publish():
        handed_on += batch
    return handed_on


def test_concurrent_relays_publish_each_event_once(
    engine: Engine, queues: Queues, own_aws: Aws, name: str, relays: Crowd
) -> None:
    write_events(name, 100)

    variables = {**own_aws.variables, "WEBHOOK_QUEUE_URL": queues.url}

    handed_on = relays(relay, [[variables]] * 4)

    assert sum(count for (count,) in handed_on) == 200
    assert counts_by_id(queues.messages()) == dict.fromkeys(pulled(name), 1)
    assert waiting(engine) == 0
