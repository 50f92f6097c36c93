"""The log and the metrics of a function: JSON lines on its output, made on first use.

Never sees a whole token: tokens are bearer secrets.
"""

from functools import cache

from aws_lambda_powertools import Logger, Metrics

NAMESPACE = "OpenReserve"


@cache
def logger() -> Logger:
    """The logger. Its service is POWERTOOLS_SERVICE_NAME, its level POWERTOOLS_LOG_LEVEL."""
    return Logger()


@cache
def metrics() -> Metrics:
    """Metrics in CloudWatch's embedded format. Ids are never dimensions: each would be billed."""
    return Metrics(namespace=NAMESPACE)
