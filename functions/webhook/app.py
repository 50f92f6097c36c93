"""Deliver events to the endpoints that want them, from the queue, several at a time."""

import asyncio
from typing import Any

from openreserve.webhooks import dispatch


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Carry out a batch of messages at once, and tell SQS which of them are to come back."""
    undone = asyncio.run(dispatch.carry_out(event["Records"]))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in undone]}
