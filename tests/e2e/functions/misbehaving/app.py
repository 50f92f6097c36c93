"""A function that does whatever the event asks for, to see what the runtime makes of it."""

import os
import sys
import time
from typing import Any

started_at = time.time()


def handler(event: dict[str, Any], context: Any) -> Any:
    if "sleep_seconds" in event:
        time.sleep(event["sleep_seconds"])
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "say" in event:
        sys.stdout.write(event["say"] + "\n")
    if "answer" in event:
        return {event["answer"]}
    if "bytes" in event:
        return "x" * event["bytes"]
    return {
        "functionName": context.function_name,
        "memoryMb": context.memory_limit_in_mb,
        "pid": os.getpid(),
        "startedAt": started_at,
        "requestId": context.aws_request_id,
        "remainingMs": context.get_remaining_time_in_millis(),
        "environment": dict(os.environ),
    }
