"""SQS and Secrets Manager for `sam local`: moto's server, with the queues of template.yaml.

Runs in moto's image, so it imports nothing of this repository.
"""

import json
import sys
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

ACCOUNT = "123456789012"
REGION = "eu-central-1"
RECEIVES_MAX = "100"  # as in template.yaml


def serve(port: int) -> None:
    """Serve until the container is stopped. All data is in memory."""
    server = ThreadedMotoServer(ip_address="0.0.0.0", port=port, verbose=False)  # noqa: S104
    server.start()
    sqs = _sqs(port)
    sqs.create_queue(QueueName="DeadLetterQueue")
    dead_letters = f"arn:aws:sqs:{REGION}:{ACCOUNT}:DeadLetterQueue"
    redrive = {"deadLetterTargetArn": dead_letters, "maxReceiveCount": RECEIVES_MAX}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "360"}
    for name in ("WebhookQueue", "WebhookRetryQueue"):
        sqs.create_queue(QueueName=name, Attributes=attributes)
    server._thread.join()  # type: ignore[union-attr] # noqa: SLF001 - moto has no public way to wait


def check(port: int) -> None:
    """Fail unless the queue that is created last exists."""
    _sqs(port).get_queue_url(QueueName="WebhookRetryQueue")


def _sqs(port: int) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - a dummy
    )


if __name__ == "__main__":
    {"serve": serve, "check": check}[sys.argv[1]](int(sys.argv[2]))
