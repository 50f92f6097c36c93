"""A function that answers with its event, or does what the path says."""

import json
import os
import time
from typing import Any


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    match event["pathParameters"]["what"]:
        case "flood":
            return {"statusCode": 200, "body": "x" * 4_000_000}
        case "crash":
            os._exit(1)
        case "sleep":
            time.sleep(30)
        case "teapot":
            return {"statusCode": 418, "headers": {"x-tea": "green"}, "body": "short and stout"}
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(event),
    }
