"""Failed deliveries are retried on schedule, then kept. Other messages are not affected."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from openreserve.domain.webhooks import DELAY_SECONDS_MAX, Message
from openreserve.webhooks import dispatch, queue
from tests.conftest import Queues, forget
from tests.support.deliveries import (
    ATTEMPTS_MAX,
    addressed,
    deliver,
    deliver_all,
    endpoint,
    event,
    handle,
    hidden,
    listed,
)
from tests.support.receiver import CommandError, Receiver


@pytest.fixture(autouse=True)
def _schedule(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queues
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "100,3000")
    monkeypatch.setenv("WEBHOOK_TIMEOUT_SECONDS", "1")
    forget()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The delay of each retry. The test does not wait for it."""
    waits: list[int] = []
    postpone_retry, send_to_retry = queue.postpone_retry, queue.send_to_retry

    def note(receipt: str, delay_seconds: int) -> None:
        waits.append(delay_seconds)
        postpone_retry(receipt, 0)

    def note_and_send(message: Message) -> bool:
        assert message.delay_seconds <= queue.SEND_DELAY_SECONDS_MAX
        if not message.due_at:
            waits.append(message.delay_seconds)
        return send_to_retry(replace(message, delay_seconds=0))

    monkeypatch.setattr(queue, "postpone_retry", note)
    monkeypatch.setattr(queue, "send_to_retry", note_and_send)
    return waits


@pytest.mark.parametrize("status", [0, 301, 302, 307, 400, 401, 404, 429, 500, 503, 599])
def test_a_failed_delivery_is_retried_on_schedule_and_given_up_after_the_last_attempt(
    status: int, queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(status, {"location": f"{receiver.url}/elsewhere"})
    content = event()
    queue.send([Message(content)])

    deliver_all(queues)

    assert [each.path for each in receiver.received] == ["/"] * ATTEMPTS_MAX
    first, second = waits
    assert 90 <= first <= 110
    assert 2_700 <= second <= 3_300
    assert addressed(queues.messages(dead=True)) == [("shop", content)]


IN_TEN_HOURS = format_datetime(datetime.now(UTC) + timedelta(hours=10), usegmt=True)
SCHEDULED = range(90, 111)


@pytest.mark.parametrize(
    ("answer", "waited"),
    [
        (CommandError(429, {"retry-after": "2000"}), range(2_000, 2_001)),
        (CommandError(503, {"retry-after": "2000"}), range(2_000, 2_001)),
        (CommandError(503, {"retry-after": IN_TEN_HOURS}), range(9 * 3_600, 10 * 3_600 + 1)),
        (
            CommandError(503, {"retry-after": "9" * 5_000}),
            range(DELAY_SECONDS_MAX, DELAY_SECONDS_MAX + 1),
        ),
        (CommandError(429, {"retry-after": "1"}), SCHEDULED),
        (CommandError(429, {"retry-after": "soon"}), SCHEDULED),
        (CommandError(429, {"retry-after": "-5"}), SCHEDULED),
        (CommandError(429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}), SCHEDULED),
        (CommandError(500, {"retry-after": "2000"}), SCHEDULED),
        (CommandError(404, {"retry-after": "2000"}), SCHEDULED),
        (CommandError(302, {"retry-after": "2000"}), SCHEDULED),
    ],
)
def test_the_retry_after_of_an_overloaded_endpoint_is_respected(
    answer: CommandError, waited: range, queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = answer
    queue.send([Message(event(), "shop")])

    deliver(queues)

    wait_seconds = waits[0]
    assert wait_seconds in waited or wait_seconds + 1 in waited, "the clock may go on by a second"


def test_a_retry_is_hidden_in_the_queue_until_its_time(queues: Queues, receiver: Receiver) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == 1
    assert hidden(queues) == 1


def test_an_endpoint_that_answers_410_is_disabled_until_it_is_saved_again(
    queues: Queues, receiver: Receiver
) -> None:
    secret = endpoint(f"{receiver.url}/gone")
    endpoint(f"{receiver.url}/there", "there")
    receiver.answers["/gone"] = CommandError(410)
    queue.send([Message(event())])
    deliver_all(queues)
    queue.send([Message(event(), "shop"), Message(event())])
    deliver_all(queues)

    assert (len(receiver.at("/gone")), len(receiver.at("/there"))) == (1, 2)
    assert listed()["disabled"].endswith("Z it answered 410")
    assert "disabled" not in listed("there")
    assert hidden(queues) == 0
    assert queues.messages() == queues.messages(dead=True) == []

    del receiver.answers["/gone"]
    assert endpoint(f"{receiver.url}/gone") == "", "its secret is the one it had"
    queue.send([Message(event())])
    deliver_all(queues)

    assert "disabled" not in listed()
    assert len(receiver.at("/gone")) == 2
    assert receiver.at("/gone")[-1].is_signed_with(secret)


def test_a_failing_or_hanging_endpoint_does_not_block_the_others_of_a_batch(
    queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    for status in (0, 204, 500):
        endpoint(f"{receiver.url}/{status}", f"answers-{status}")
        receiver.answers[f"/{status}"] = CommandError(status)
    queue.send([Message(event(), f"answers-{status}") for status in (0, 204, 500) * 3])

    assert len(deliver(queues)) == 9 + 6, "one batch, and then its retries"

    assert [len(receiver.at(f"/{status}")) for status in (0, 204, 500)] == [6, 3, 6]
    assert len(waits) == 12
    groups = [message["Attributes"]["MessageGroupId"] for message in queues.messages()]
    assert sorted(groups) == ["answers-0"] * 3 + ["answers-500"] * 3


@pytest.mark.parametrize("waits_given", ["1", "1,1,1", ",".join("1" * 50)])
def test_an_event_is_given_up_after_one_attempt_more_than_configured_waits(
    waits_given: str, queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WEBHOOK_RETRY_SECONDS alone defines the number of attempts."""
    attempts_due = waits_given.count(",") + 2
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", waits_given.replace("1", "0"))
    forget()
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == attempts_due
    (letter,) = queue.list_dead_letters(10)
    assert letter.attempts == attempts_due
    assert hidden(queues) == 0


def test_a_wait_beyond_the_maximum_sqs_delay_uses_no_attempt(
    queues: Queues, receiver: Receiver, waits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "43200,43200,1000")
    forget()
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == 4
    assert [round(wait_seconds / 10_000) for wait_seconds in waits] == [4, 4, 0]


@pytest.mark.parametrize("status", [0, 500])
def test_a_retry_is_not_in_flight_in_the_queue_of_first_attempts(
    status: int, queues: Queues, receiver: Receiver
) -> None:
    """SQS delivers no message of a queue with 120,000 messages in flight. A dead endpoint
    can cause that many.
    """
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(status)
    queue.send([Message(event(), "shop") for _ in range(10)])

    deliver_all(queues)

    first = queues.sqs.get_queue_attributes(QueueUrl=queues.url, AttributeNames=["All"])
    assert first["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"
    assert hidden(queues) == 10


def test_a_retry_rejected_by_its_queue_returns_to_the_current_queue(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    queue.send([Message(event(), "shop")])
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "0,0")
    forget()
    monkeypatch.setattr(queue, "send_to_retry", lambda _: False)

    deliver_all(queues)

    assert len(receiver.received) == ATTEMPTS_MAX
    assert queue.list_dead_letters(10)[0].attempts == ATTEMPTS_MAX


def test_a_rejected_dead_letter_is_not_lost(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = CommandError(500)
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "0")
    forget()
    queue.send([Message(event(), "shop")])
    with monkeypatch.context() as patch:
        patch.setattr(queue, "give_up", lambda _: False)
        deliver_all(queues)

    assert (hidden(queues), queues.messages(dead=True)) == (1, [])


def test_a_slow_endpoint_moves_to_the_retry_queue_after_one_attempt(
    queues: Queues, receiver: Receiver
) -> None:
    """Of twenty sequential executions in an environment, one waits for the endpoint."""
    for path in ("slow", "quick"):
        endpoint(f"{receiver.url}/{path}", path)
    receiver.answers["/slow"] = CommandError(0)
    for _ in range(20):
        queue.send([Message(event(), "slow"), Message(event(), "quick")])

    while received := queues.received(queues.url):
        for message in received:
            handle(queues, message, url=queues.url)

    assert [len(receiver.at(path)) for path in ("/slow", "/quick")] == [1, 20]
    attempts_made = [
        message.get("MessageAttributes", {}).get(queue.ATTEMPTS, {"StringValue": "0"})
        for message in queues.received(queues.retry_url)
    ]
    assert [each["StringValue"] for each in attempts_made] == ["0"] * 10, "the first is delayed"


def test_a_message_moved_to_the_retry_queue_has_all_its_attempts(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "0,0")
    forget()
    endpoint(f"{receiver.url}/")
    dispatch._slow().note("shop", time.monotonic(), 0)
    receiver.answers["/"] = CommandError(500)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == ATTEMPTS_MAX
    assert queue.list_dead_letters(10)[0].attempts == ATTEMPTS_MAX


def test_a_message_rejected_by_the_retry_queue_is_delivered_immediately(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(f"{receiver.url}/")
    dispatch._slow().note("shop", time.monotonic(), 0)
    monkeypatch.setattr(queue, "send_to_retry", lambda _: False)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == 1
    assert hidden(queues) == 0
