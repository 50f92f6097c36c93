"""Dead letters are kept, listed, and redriven with all their attempts."""

import json
import time
from typing import Any

import pytest

from openreserve.domain.webhooks import DeadLetter, Message
from openreserve.webhooks import queue
from tests.conftest import Queues, forget
from tests.support.deliveries import ATTEMPTS_MAX, deliver_all, endpoint, event, hidden
from tests.support.handlers import Reply, call, invoke, sample
from tests.support.receiver import CommandError, Receiver

pytestmark = pytest.mark.usefixtures("immediate_retries")

EVENT = {
    "id": "0f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "type": "STOCK_DEPLETED",
    "resourceId": "hotel-room-101",
    "value": 0,
    "timestamp": "2026-03-31T10:47:11.271Z",
    "sequence": 1,
    "tokens": ["550e8400-e29b-41d4-a716-446655440000"],
}


def give_up(queues: Queues, receiver: Receiver, *contents: str, endpoint_id: str = "shop") -> None:
    """Let the events use up their attempts at a failing endpoint, which then recovers."""
    path = f"/{endpoint_id}"
    endpoint(receiver.url + path, endpoint_id)
    receiver.answers[path] = CommandError(500)
    queue.send([Message(content, endpoint_id) for content in contents])
    deliver_all(queues)
    assert len(receiver.at(path)) == ATTEMPTS_MAX * len(contents)
    receiver.answers.clear()
    receiver.received.clear()


def dead_letters(limit: int = 200) -> list[Any]:
    request = sample("list-dead-letters")
    request["queryStringParameters"] = {"limit": str(limit)}
    reply = invoke("list-dead-letters", request)
    assert reply.status == 200, reply
    dead_letters: list[Any] = reply.json["deadLetters"]
    return dead_letters


def resend(**body: str) -> Reply:
    return call("resend-dead-letters", body)


def test_a_listed_dead_letter_shows_its_event_and_stays_in_the_queue(
    queues: Queues, receiver: Receiver
) -> None:
    give_up(queues, receiver, json.dumps(EVENT))

    (first,), (second,) = dead_letters(), dead_letters()

    assert (first["endpointId"], first["event"]) == ("shop", EVENT)
    assert first["sentAt"].endswith("Z")
    assert ATTEMPTS_MAX == first["attempts"] == second["attempts"]
    assert "content" not in first
    assert len(queues.messages(dead=True)) == 1


def test_a_dead_letter_that_is_not_an_event_is_shown_verbatim(queues: Queues) -> None:
    queue.send([Message("no JSON")])
    deliver_all(queues)

    (letter,) = dead_letters()

    assert letter["content"] == "no JSON"
    assert not letter.keys() & {"event", "endpointId"}


def test_the_limit_bounds_the_listed_dead_letters(queues: Queues, receiver: Receiver) -> None:
    give_up(queues, receiver, *(event() for _ in range(15)))

    assert [len(dead_letters(limit)) for limit in (1, 10, 12, 15, 200)] == [1, 10, 12, 15, 15]
    ids = [letter["event"]["id"] for letter in dead_letters()]
    assert len(set(ids)) == 15


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1.5"])
def test_an_invalid_limit_is_refused(limit: str) -> None:
    request = sample("list-dead-letters")
    request["queryStringParameters"] = {"limit": limit}

    reply = invoke("list-dead-letters", request)

    assert (reply.status, reply.code) == (400, "query_invalid")


def test_a_redriven_event_keeps_its_id_and_gets_all_its_attempts(
    queues: Queues, receiver: Receiver
) -> None:
    contents = sorted(event() for _ in range(12))
    give_up(queues, receiver, *contents)
    receiver.answers["/shop"] = CommandError(500)

    reply = resend()

    assert (reply.status, reply.json) == (200, {"resent": 12})
    assert dead_letters() == []
    deliver_all(queues)
    assert len(receiver.received) == 12 * ATTEMPTS_MAX, "each got its attempts"
    receiver.answers.clear()
    receiver.received.clear()
    assert resend().json == {"resent": 12}
    deliver_all(queues)
    assert sorted(each.content.decode() for each in receiver.received) == contents
    assert all(json.loads(each.content)["id"] == each.id for each in receiver.received)
    assert dead_letters() == []
    assert resend().json == {"resent": 0}


def test_a_redrive_of_one_endpoint_leaves_the_dead_letters_of_the_others(
    queues: Queues, receiver: Receiver
) -> None:
    give_up(queues, receiver, *(event() for _ in range(11)))
    give_up(queues, receiver, *(event() for _ in range(12)), endpoint_id="bank")

    assert resend(endpointId="bank").json == {"resent": 12}
    deliver_all(queues)

    assert [each.path for each in receiver.received] == ["/bank"] * 12
    assert [letter["endpointId"] for letter in dead_letters()] == ["shop"] * 11
    assert resend(endpointId="nobody").json == {"resent": 0}
    assert len(dead_letters()) == 11


def test_the_limit_bounds_the_redriven_dead_letters(queues: Queues, receiver: Receiver) -> None:
    give_up(queues, receiver, *(event() for _ in range(15)))

    assert [queue.resend_dead_letters("", 4), queue.resend_dead_letters("shop", 6)] == [4, 6]
    assert len(dead_letters()) == 5


def test_a_dead_letter_that_the_queue_rejects_stays_a_dead_letter(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up(queues, receiver, event(), event(), event())
    send = queue.send

    def moody(messages: list[Message]) -> list[bool]:
        return [False, *send(messages[1:])]

    with monkeypatch.context() as patch:
        patch.setattr(queue, "send", moody)
        assert queue.resend_dead_letters("", 3) == 2

    deliver_all(queues)
    assert len({each.id for each in receiver.received}) == 2
    assert hidden(queues, dead=True) == 1, "until its visibility timeout ends"


def test_a_search_ends_before_the_skipped_messages_become_visible_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For any number of messages: the first ones received become visible again."""
    letter = DeadLetter(Message(event(), "shop"), ATTEMPTS_MAX, 0, "a receipt")
    shown: list[DeadLetter] = []

    def find_another(_limit: int) -> list[DeadLetter]:
        time.sleep(0.01)
        return [letter]

    monkeypatch.setattr(queue, "_DEAD_LETTER_VISIBILITY_SECONDS", 0.5)
    monkeypatch.setattr(queue, "_receive_dead", find_another)
    monkeypatch.setattr(queue, "_make_visible", shown.extend)

    assert queue.resend_dead_letters("bank", 10) == 0
    assert set(shown) == {letter}


@pytest.mark.parametrize("body", [{"endpointId": "a/b"}, {"endpointId": ""}, {"shop": "x"}, "[]"])
def test_a_bad_request_sends_nothing_again(body: Any, queues: Queues, receiver: Receiver) -> None:
    give_up(queues, receiver, event())

    reply = call("resend-dead-letters", body)

    assert (reply.status, reply.code) == (400, "body_invalid")
    assert len(dead_letters()) == 1


@pytest.mark.parametrize("name_of_it", ["list-dead-letters", "resend-dead-letters"])
def test_without_sqs_the_answer_is_503_with_retry_after(
    name_of_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", "http://127.0.0.1:9/123456789012/q")
    forget()

    reply = call(name_of_it)

    assert (reply.status, reply.code) == (503, "service_unavailable")
    assert reply.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "name_of_it",
    ["save-endpoint", "list-endpoints", "remove-endpoint", "rotate-secret", "ping-endpoint"],
)
def test_without_secrets_manager_the_answer_is_503_with_retry_after(
    name_of_it: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    forget()

    reply = call(name_of_it)

    assert (reply.status, reply.code) == (503, "service_unavailable")
    assert reply.headers["retry-after"] == "1"
