"""Events on their way to endpoints, with the webhook function called as SQS does it."""

import json
from typing import Any
from uuid import uuid4

from functions.webhook import app as webhook_app
from openreserve import endpoints
from tests.calls import call, invoke, sample
from tests.conftest import Queues

ATTEMPTS_MAX = 3
"""Of the queues in the tests."""


def event(event_type: str = "STOCK_DEPLETED") -> str:
    """As it is in the queue."""
    content = json.loads(sample("webhook")["Records"][0]["body"])
    return json.dumps(content | {"id": str(uuid4()), "type": event_type})


def deliver(queues: Queues) -> list[str]:
    """Call the function with what waits, as the mapping does. What came back stays hidden."""
    received = queues.sqs.receive_message(
        QueueUrl=queues.url,
        MaxNumberOfMessages=10,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    ).get("Messages", [])
    if not received:
        return []
    answer = webhook_app.handler({"Records": [_record(message) for message in received]}, None)
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    for message in received:
        if message["MessageId"] not in failed:
            queues.sqs.delete_message(QueueUrl=queues.url, ReceiptHandle=message["ReceiptHandle"])
    return [message["MessageId"] for message in received]


def _record(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a function gets it, with what else the sample has."""
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
    }


def deliver_all(queues: Queues) -> None:
    """Until nothing waits that can be seen."""
    endpoints._known.cache_clear()  # as if they were remembered no more
    while deliver(queues):
        pass


def endpoint(url: str, endpoint_id: str = "shop", *events: str) -> str:
    """Make or change an endpoint; its secret, if it is new."""
    reply = call("save-endpoint", {"endpointId": endpoint_id, "url": url, "events": [*events]})
    assert reply.status in (200, 201), reply
    return str(reply.json.get("secret", ""))


def rotate(endpoint_id: str = "shop") -> str:
    request = sample("rotate-secret")
    request["pathParameters"]["endpointId"] = endpoint_id
    return str(invoke("rotate-secret", request).json["secret"])


def listed(endpoint_id: str = "shop") -> Any:
    found = call("list-endpoints").json["webhooks"]
    return next(each for each in found if each["endpointId"] == endpoint_id)


def told(messages: list[Any]) -> list[tuple[str, str]]:
    return sorted((m["Attributes"]["MessageGroupId"], m["Body"]) for m in messages)


def hidden(queues: Queues, *, dead: bool = False) -> int:
    """How many messages wait for their time to come back."""
    url = queues.dead_url if dead else queues.url
    answer = queues.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])


def back_at_once(queues: Queues) -> None:
    """As if the time were over after which SQS shows what nobody deleted."""
    queues.sqs.set_queue_attributes(QueueUrl=queues.url, Attributes={"VisibilityTimeout": "0"})
