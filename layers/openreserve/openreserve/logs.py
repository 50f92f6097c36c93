"""The log and the metrics of a function: JSON lines on its output, made on first use.

Never sees a whole token: tokens are bearer secrets.
"""

import re
from functools import cache

from aws_lambda_powertools import Logger, Metrics

NAMESPACE = "OpenReserve"

_TOKEN = re.compile(r"\b([0-9a-f]{8})-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with all but the beginning of each token left out."""
    return _TOKEN.sub(r"\1…", text)


@cache
def logger() -> Logger:
    """The logger. Its service is POWERTOOLS_SERVICE_NAME, its level POWERTOOLS_LOG_LEVEL."""
    return Logger()


@cache
def metrics() -> Metrics:
    """Metrics in CloudWatch's embedded format. Ids are never dimensions: each would be billed."""
    return Metrics(namespace=NAMESPACE)
