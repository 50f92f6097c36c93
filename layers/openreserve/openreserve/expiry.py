"""What the two ways of closing expired holds tell the metrics."""

from openreserve.holds import Expired
from openreserve.logs import tell


def account_reclaims(closed: int) -> None:
    """One line for those that were closed as somebody wanted their stock. None, if none were."""
    if closed:
        tell({"HoldsExpired": closed}, dimensions={"path": "reclaim"})


def account(expired: Expired, path: str) -> None:
    """One line for a batch, which is its log entry and its metrics. None for an empty batch."""
    if not expired.lags_ms:
        return
    tell(
        {"HoldsExpired": len(expired.lags_ms), "ExpiryLag": max(expired.lags_ms)},
        dimensions={"path": path},
    )
