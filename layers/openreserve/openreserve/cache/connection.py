"""Access to Redis with short timeouts, and a pause after each failure (a circuit breaker).

One connection per thread. Knows no key and no command.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import redis

from openreserve.cache.cluster import Command, Nodes
from openreserve.runtime import snapstart, telemetry
from openreserve.runtime.per_thread import PerThread
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger


def execute(*commands: Command) -> list[Any] | None:
    """The replies to the commands, in one round trip; None: Redis is unavailable or paused.

    Without the pause, each request would wait for the timeout of a Redis that hangs. The pause is
    short at first, because one late reply may be an exception, and doubles with each failure.
    """
    state = _state.get()
    if state.nodes is None:
        state.nodes = _nodes(settings().redis_timeout_ms / 1_000)
    if state.nodes is None or time.monotonic() < state.pause.until:
        return None
    try:
        with telemetry.measured("RedisDuration"):
            replies = state.nodes.exchange(*commands)
    except redis.RedisError as error:
        state.nodes.disconnect()  # a late reply must not answer a later command
        state.pause.lengthen()
        logger().warning("Redis failed; pausing its use", extra={"reason": repr(error)})
        return None
    state.pause.length_ms = 0
    return replies


def wait(seconds: float, wake_key: str) -> bool | None:
    """Wait in Redis for an entry in a list, at most `seconds`, and return whether one arrived.

    None: Redis is unavailable.
    """
    state = _state.get()
    if state.waiting_nodes is None:
        state.waiting_nodes = _nodes(settings().expire_stay_seconds + 1)
    if state.waiting_nodes is None:
        return None
    try:
        # One millisecond more, because Redis may count its timeout from an earlier clock tick.
        command = ("BLPOP", wake_key, round(seconds, 3) + 0.001)
        (entry,) = state.waiting_nodes.exchange(command, repeatable=False)
    except redis.RedisError as error:
        state.waiting_nodes.disconnect()
        message = "Lost the connection to Redis while waiting"
        logger().warning(message, extra={"reason": repr(error)})
        return None
    return entry is not None


def disconnect() -> None:
    """Close the connections of this thread. The next use opens new ones."""
    state = _state.get()
    for nodes in (state.nodes, state.waiting_nodes):
        if nodes is not None:
            nodes.disconnect()
    _state.set(_State())


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    length_ms: int = 0

    def lengthen(self) -> None:
        shortest, longest = settings().redis_pause_ms_min, settings().redis_pause_ms_max
        self.length_ms = min(max(shortest, 2 * self.length_ms), longest)
        self.until = time.monotonic() + self.length_ms / 1_000


@dataclass(slots=True)
class _State:
    nodes: Nodes | None = None
    """For requests."""
    waiting_nodes: Nodes | None = None
    """For blocking commands, with a timeout as long as the prompt expiry runs."""
    pause: _Pause = field(default_factory=_Pause)


_state = PerThread(_State)


def _nodes(reply_timeout_seconds: float) -> Nodes | None:
    snapstart.opened(disconnect)
    return Nodes(reply_timeout_seconds) if settings().redis_url else None
