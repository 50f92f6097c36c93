"""Delivers events to endpoints: invokes the webhook function as the SQS event source does."""

import json
from typing import Any
from uuid import uuid4

from functions.webhook import app as webhook_app
from infra.local.template.intrinsics import ACCOUNT, REGION
from openreserve.webhooks import endpoints
from tests.conftest import Queues
from tests.support.handlers import call, invoke, sample

ATTEMPTS_MAX = 3
"""One more than the number of retry delays in the tests."""


def event(event_type: str = "STOCK_DEPLETED") -> str:
    """The body of an SQS message with a new event."""
    content = json.loads(sample("webhook")["Records"][0]["body"])
    return json.dumps(content | {"id": str(uuid4()), "type": event_type})


def deliver(queues: Queues) -> list[str]:
    """Invoke the function with the visible messages of both queues. Failed messages stay hidden."""
    return _deliver(queues, queues.url) + _deliver(queues, queues.retry_url)


def _deliver(queues: Queues, url: str) -> list[str]:
    received = queues.received(url)
    if received:
        handle(queues, *received, url=url)
    return [message["MessageId"] for message in received]


def handle(queues: Queues, *received: dict[str, Any], url: str) -> None:
    """Invoke the function with these messages, and delete those that it processed."""
    records = [_record(message, url) for message in received]
    answer = webhook_app.handler({"Records": records}, None)
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    for message in received:
        if message["MessageId"] not in failed:
            queues.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def _record(message: dict[str, Any], url: str) -> dict[str, Any]:
    """The message as a record of a Lambda event, with the other fields of the sample event."""
    attributes = message.get("MessageAttributes", {})
    record: dict[str, Any] = sample("webhook")["Records"][0]
    return record | {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
            for name, value in attributes.items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{url.rpartition('/')[2]}",
    }


def deliver_all(queues: Queues) -> None:
    """Deliver until no message is visible."""
    endpoints._known.cache_clear()  # as if the cached endpoints had expired
    while deliver(queues):
        pass


def endpoint(url: str, endpoint_id: str = "shop", *events: str) -> str:
    """Create or change an endpoint, and return the secret of a new one."""
    reply = call("save-endpoint", {"endpointId": endpoint_id, "url": url, "events": [*events]})
    assert reply.status in (200, 201), reply
    return str(reply.json.get("secret", ""))


def rotate(endpoint_id: str = "shop") -> str:
    request = sample("rotate-secret")
    request["pathParameters"]["endpointId"] = endpoint_id
    return str(invoke("rotate-secret", request).json["secret"])


def listed(endpoint_id: str = "shop") -> Any:
    webhooks = call("list-endpoints").json["webhooks"]
    return next(each for each in webhooks if each["endpointId"] == endpoint_id)


def addressed(messages: list[Any]) -> list[tuple[str, str]]:
    return sorted((m["Attributes"]["MessageGroupId"], m["Body"]) for m in messages)


def hidden(queues: Queues, *, dead: bool = False) -> int:
    """The number of messages that are delayed or in flight."""
    urls = [queues.dead_url] if dead else [queues.url, queues.retry_url]
    return sum(_hidden(queues, url) for url in urls)


def _hidden(queues: Queues, url: str) -> int:
    answer = queues.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = ("ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
    return sum(int(answer[name]) for name in names)


def back_at_once(queues: Queues) -> None:
    """End the visibility timeout of all messages in flight."""
    queues.sqs.set_queue_attributes(QueueUrl=queues.url, Attributes={"VisibilityTimeout": "0"})
