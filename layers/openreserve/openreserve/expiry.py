"""What the two ways of closing expired holds tell the metrics."""

from openreserve.holds import Expired
from openreserve.logs import metrics


def account(expired: Expired, path: str) -> None:
    """One line for a batch, which is its log entry and its metrics. None for an empty batch."""
    if not expired.lags_ms:
        return
    line = metrics()
    line.add_dimension("path", path)
    line.add_metric("HoldsExpired", "Count", len(expired.lags_ms))
    line.add_metric("ExpiryLag", "Milliseconds", max(expired.lags_ms))
    line.flush_metrics()
