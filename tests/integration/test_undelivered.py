"""No event is lost to a poison message, an unreadable endpoint, or an outage of AWS."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from functions.webhook import app as webhook_app
from infra.local.aws import Aws
from openreserve.domain.webhooks import Message
from openreserve.webhooks import endpoints, queue
from tests.conftest import Queues, forget
from tests.support.deliveries import (
    addressed,
    back_at_once,
    deliver,
    deliver_all,
    endpoint,
    event,
    hidden,
)
from tests.support.handlers import sample
from tests.support.receiver import Receiver

pytestmark = pytest.mark.usefixtures("immediate_retries")


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[]", "null", "7", "{}", '{"id": "x"}', '{"type": "STOCK_DEPLETED"}', "[" * 9_000],
)
def test_a_message_that_is_not_an_event_becomes_a_dead_letter_and_others_arrive(
    content: str, queues: Queues, receiver: Receiver
) -> None:
    endpoint(f"{receiver.url}/")
    queue.send([Message(content), Message(content, "shop"), Message(event())])

    deliver_all(queues)

    assert len(receiver.received) == 1
    assert addressed(queues.messages(dead=True)) == [
        ("events", content),
        ("shop", content),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "no JSON",
        "[]",
        "{}",
        '{"url": "https://shop.example.com/"}',
        '{"url": "http://127.0.0.1:9/", "secrets": ["whsec_?"]}',
        '{"url": "http://127.0.0.1:9/", "secret": ""}',
        '{"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}',
    ],
)
def test_events_for_an_unreadable_endpoint_are_kept_and_others_arrive(
    value: str, queues: Queues, own_aws: Aws, receiver: Receiver, name: str
) -> None:
    manager = own_aws.client("secretsmanager")
    manager.create_secret(Name=f"{name}/unreadable", SecretString=value)
    endpoint(f"{receiver.url}/")
    content = event()
    queue.send([Message(content)])

    deliver_all(queues)

    assert [each.content.decode() for each in receiver.received] == [content]
    assert addressed(queues.messages(dead=True)) == [("unreadable", content)]


def test_a_temporarily_unreadable_secret_does_not_make_its_endpoint_unknown(
    queues: Queues, receiver: Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchGetSecretValue responds 200 with an outcome for each secret."""
    endpoint(f"{receiver.url}/")
    manager = endpoints._manager()
    refusal = {"SecretId": f"{name}/shop", "ErrorCode": "DecryptionFailure", "Message": "KMS"}
    content = event()
    queue.send([Message(content, "shop")])

    with monkeypatch.context() as patch:
        patch.setattr(
            manager, "batch_get_secret_value", lambda **_: {"SecretValues": [], "Errors": [refusal]}
        )
        deliver_all(queues)

    assert receiver.received == []
    assert addressed(queues.messages(dead=True)) == [("shop", content)], "tried, not dropped"


def test_events_for_an_endpoint_with_a_private_address_are_kept_and_not_delivered(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.url.rpartition(":")[2]
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "0")
    monkeypatch.setenv("WEBHOOK_PORTS", port)
    forget()
    endpoint(f"https://localhost:{port}/")
    content = event()
    queue.send([Message(content)])

    deliver_all(queues)

    assert receiver.received == []
    assert addressed(queues.messages(dead=True)) == [("shop", content)]


def test_an_event_without_an_endpoint_is_dropped(queues: Queues, receiver: Receiver) -> None:
    endpoint(f"{receiver.url}/")
    queue.send([Message(event(), "removed"), Message(event(), "shop")])

    deliver_all(queues)

    assert len(receiver.received) == 1
    assert hidden(queues) == 0
    assert queues.messages() == queues.messages(dead=True) == []


def test_a_partly_fanned_out_event_is_fanned_out_again_under_its_id(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for endpoint_id in ("a", "b"):
        endpoint(f"{receiver.url}/{endpoint_id}", endpoint_id)
    content = event()
    queue.send([Message(content)])
    back_at_once(queues)
    real = queue._sqs()

    class Moody:
        def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> Any:  # noqa: N803
            answer = real.send_message_batch(QueueUrl=QueueUrl, Entries=Entries[1:])
            return answer | {"Failed": [{"Id": Entries[0]["Id"], "Code": "InternalError"}]}

    with monkeypatch.context() as moody:
        moody.setattr(queue, "_sqs", Moody)
        deliver(queues)

    deliver_all(queues)

    assert sorted(each.path for each in receiver.received) == ["/a", "/b", "/b"]
    assert {each.id for each in receiver.received} == {json.loads(content)["id"]}


def test_without_secrets_manager_a_batch_returns_to_the_queue(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = endpoint(f"{receiver.url}/")
    content = event()
    queue.send([Message(content), Message(content, "shop")])
    back_at_once(queues)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
        forget()
        deliver(queues)
    forget()
    assert receiver.received == []

    deliver_all(queues)

    assert [each.content.decode() for each in receiver.received] == [content] * 2
    assert all(each.is_signed_with(secret) for each in receiver.received)
    assert queues.messages() == queues.messages(dead=True) == []


def test_a_batch_reads_the_endpoints_once(
    queues: Queues, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets Manager limits the requests per second of all functions together."""
    endpoint(f"{receiver.url}/")
    looks: list[str] = []
    look = endpoints._listed

    def noted() -> Iterator[tuple[str, str]]:
        looks.append("for a record")
        return look()

    monkeypatch.setattr(endpoints, "_listed", noted)
    monkeypatch.setenv("WEBHOOK_CACHE_SECONDS", "1000000000")
    forget()
    queue.send([Message(event(), "shop") for _ in range(10)])

    deliver_all(queues)

    assert (len(receiver.received), len(looks)) == (10, 1)


def test_the_sample_event_is_delivered(queues: Queues, receiver: Receiver) -> None:
    secret = endpoint(f"{receiver.url}/")
    batch = sample("webhook")

    assert webhook_app.handler(batch, None) == {"batchItemFailures": []}

    (delivery,) = receiver.received
    assert delivery.content.decode() == batch["Records"][1]["body"]
    assert delivery.is_signed_with(secret)
    assert addressed(queues.messages()) == [("shop", batch["Records"][0]["body"])]
