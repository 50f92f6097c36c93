"""Deliver events from the queue to webhook endpoints."""

import asyncio
from typing import Any

from openreserve.webhooks import dispatch


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Process a batch of messages concurrently; SQS makes those in the result visible again."""
    unprocessed = asyncio.run(dispatch.carry_out(event["Records"]))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in unprocessed]}
