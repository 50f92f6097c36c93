"""The log and the metrics of a function: JSON lines on its output, made on first use.

Never sees a whole token: tokens are bearer secrets.
"""

import json
import re
import sys
import threading
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

NAMESPACE = "OpenReserve"

_TOKEN = re.compile(r"\b([0-9a-f]{8})-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with all but the beginning of each token left out."""
    return _TOKEN.sub(r"\1…", text)


@cache
def logger() -> Logger:
    """The logger. Its service is POWERTOOLS_SERVICE_NAME, its level POWERTOOLS_LOG_LEVEL."""
    return Logger()


class Metrics(EphemeralMetrics):
    """Metrics in CloudWatch's embedded format. Ids are never dimensions: each would be billed."""

    def flush_metrics(self, *_: Any, **__: Any) -> None:
        """Write the line, in one piece: another thread may be writing one, too."""
        sys.stdout.write(json.dumps(self.serialize_metric_set(), separators=(",", ":")) + "\n")
        self.clear_metrics()


def metrics() -> Metrics:
    """The metrics that this thread is about to write."""
    if _of_this_thread.metrics is None:
        _of_this_thread.metrics = Metrics(namespace=NAMESPACE)
    return _of_this_thread.metrics


class _Thread(threading.local):
    metrics: Metrics | None = None


_of_this_thread = _Thread()
