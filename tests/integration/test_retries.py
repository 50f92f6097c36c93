"""What fails comes back at its time, what is given up is kept, and no other message minds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from openreserve import queue
from openreserve.queue import Message
from openreserve.webhooks import DELAY_SECONDS_MAX
from tests.conftest import Queues, forget
from tests.deliveries import (
    ATTEMPTS_MAX,
    deliver,
    deliver_all,
    endpoint,
    event,
    hidden,
    listed,
    told,
)
from tests.receiver import Receiver, Told


@pytest.fixture(autouse=True)
def _schedule(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queues
    monkeypatch.setenv("WEBHOOK_RETRY_SECONDS", "100,3000")
    monkeypatch.setenv("WEBHOOK_TIMEOUT_SECONDS", "1")
    forget()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long each retry was put off. The test does not wait for it."""
    waits: list[int] = []
    postpone = queue.postpone

    def note(receipt: str, delay_seconds: int) -> None:
        waits.append(delay_seconds)
        postpone(receipt, 0)

    monkeypatch.setattr(queue, "postpone", note)
    return waits


@pytest.mark.parametrize("status", [0, 301, 302, 307, 400, 401, 404, 429, 500, 503, 599])
def test_a_failure_is_tried_again_as_scheduled_and_given_up_after_the_last_attempt(
    status: int, queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = Told(status, {"location": f"{receiver.url}/elsewhere"})
    content = event()
    queue.send([Message(content)])

    deliver_all(queues)

    assert [each.path for each in receiver.received] == ["/"] * ATTEMPTS_MAX
    first, second, last = waits
    assert 90 <= first <= 110
    assert 2_700 <= second <= 3_300
    assert last == 0
    assert told(queues.messages(dead=True)) == [("shop", content)]


IN_TEN_HOURS = format_datetime(datetime.now(UTC) + timedelta(hours=10), usegmt=True)
SCHEDULED = range(90, 111)


@pytest.mark.parametrize(
    ("answer", "waited"),
    [
        (Told(429, {"retry-after": "2000"}), range(2_000, 2_001)),
        (Told(503, {"retry-after": "2000"}), range(2_000, 2_001)),
        (Told(503, {"retry-after": IN_TEN_HOURS}), range(9 * 3_600, 10 * 3_600 + 1)),
        (Told(503, {"retry-after": "9" * 5_000}), range(DELAY_SECONDS_MAX, DELAY_SECONDS_MAX + 1)),
        (Told(429, {"retry-after": "1"}), SCHEDULED),
        (Told(429, {"retry-after": "soon"}), SCHEDULED),
        (Told(429, {"retry-after": "-5"}), SCHEDULED),
        (Told(429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}), SCHEDULED),
        (Told(500, {"retry-after": "2000"}), SCHEDULED),
        (Told(404, {"retry-after": "2000"}), SCHEDULED),
        (Told(302, {"retry-after": "2000"}), SCHEDULED),
    ],
)
def test_who_is_overloaded_is_left_alone_for_as_long_as_asked(
    answer: Told, waited: range, queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = answer
    queue.send([Message(event(), "shop")])

    deliver(queues)

    (wait_seconds,) = waits
    assert wait_seconds in waited


def test_a_retry_is_hidden_in_the_queue_until_its_time(queues: Queues, receiver: Receiver) -> None:
    endpoint(f"{receiver.url}/")
    receiver.answers["/"] = Told(500)
    queue.send([Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == 1
    assert hidden(queues) == 1


def test_an_endpoint_that_is_gone_is_disabled_and_silent_until_it_is_saved_again(
    queues: Queues, receiver: Receiver
) -> None:
    secret = endpoint(f"{receiver.url}/gone")
    endpoint(f"{receiver.url}/there", "there")
    receiver.answers["/gone"] = Told(410)
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


def test_who_fails_or_hangs_does_not_keep_the_others_of_a_batch_from_getting_theirs(
    queues: Queues, receiver: Receiver, waits: list[int]
) -> None:
    for status in (0, 204, 500):
        endpoint(f"{receiver.url}/{status}", f"answers-{status}")
        receiver.answers[f"/{status}"] = Told(status)
    queue.send([Message(event(), f"answers-{status}") for status in (0, 204, 500) * 3])

    assert len(deliver(queues)) == 9, "one batch"

    assert [len(receiver.at(f"/{status}")) for status in (0, 204, 500)] == [3, 3, 3]
    assert len(waits) == 6
    groups = [message["Attributes"]["MessageGroupId"] for message in queues.messages()]
    assert sorted(groups) == ["answers-0"] * 3 + ["answers-500"] * 3
