"""Deliver events to the endpoints that want them, from the queue, several at a time."""

from typing import Any

from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    EventType,
    async_process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from openreserve import deliveries


def handler(event: dict[str, Any], context: Any) -> Any:
    """Carry out a batch of messages at once, and tell SQS which of them are to come back."""
    return async_process_partial_response(
        event=event,
        record_handler=_carry_out,
        # Of its own: what it remembers of a batch is not for the next one.
        processor=AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False),
        context=context,
    )


async def _carry_out(record: SQSRecord) -> None:
    await deliveries.carry_out(record.raw_event)
