"""How long a call spent waiting for what. Of this thread: a function carries out one at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def measured(metric: str) -> Iterator[None]:
    """Add the time that the block takes, in milliseconds, to the metric of the call under way."""
    started = time.perf_counter()
    try:
        yield
    finally:
        spent_ms = (time.perf_counter() - started) * 1_000
        mine = _of_this_thread.spent_ms
        mine[metric] = mine.get(metric, 0) + spent_ms


def take() -> dict[str, float]:
    """What was measured since the last time, by metric."""
    spent_ms, _of_this_thread.spent_ms = _of_this_thread.spent_ms, {}
    return spent_ms


class _Thread(threading.local):
    def __init__(self) -> None:
        self.spent_ms: dict[str, float] = {}


_of_this_thread = _Thread()
