"""A function fed by a queue, that does with each message what it asks for and says so."""

import json
import sys
import time
from typing import Any


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    records = event["Records"]
    failures = []
    for record in records:
        wish = json.loads(record["body"])
        said = {
            "did": wish,
            "attempt": int(record["attributes"]["ApproximateReceiveCount"]),
            "group": record["attributes"].get("MessageGroupId"),
            "batch": len(records),
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        time.sleep(wish.get("sleep_seconds", 0))
        if "raise" in wish:
            raise ValueError(wish["raise"])
        if "fail" in wish:
            failures.append({"itemIdentifier": record["messageId"]})
        if "answer" in wish:
            failures.append({"itemIdentifier": wish["answer"]})
    return {"batchItemFailures": failures}
