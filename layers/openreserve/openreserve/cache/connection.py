"""The connection to Redis, which may vanish: never waited for long, and left alone after that.

One per thread. Knows no key and no command's meaning.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import redis

from openreserve.cache.cluster import Command, Nodes
from openreserve.runtime import snapstart, telemetry
from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger


def ask(*commands: Command) -> list[Any] | None:
    """The replies to the commands, in one round trip; None: Redis is away, and left alone a while.

    Without the pause, each request would wait for the timeout of a Redis that hangs. It is short at
    first, since one late answer may mean nothing, and doubles for as long as none comes.
    """
    mine = _of_this_thread
    if mine.nodes is None:
        mine.nodes = _nodes(settings().redis_timeout_ms / 1_000)
    if mine.nodes is None or time.monotonic() < mine.pause.until:
        return None
    try:
        with telemetry.measured("RedisDuration"):
            replies = mine.nodes.exchange(*commands)
    except redis.RedisError as error:
        mine.nodes.disconnect()  # what it still has to say answers nothing any more
        mine.pause.lengthen()
        logger().warning("Redis is left alone for a while", extra={"reason": repr(error)})
        return None
    mine.pause.length_ms = 0
    return replies


def sleep(seconds: float, wake_key: str) -> bool | None:
    """Wait in Redis for something to come into a list, at most so long, and whether it came.

    None: Redis is away, or went away.
    """
    mine = _of_this_thread
    if mine.sleeper is None:
        mine.sleeper = _nodes(settings().expire_stay_seconds + 1)
    if mine.sleeper is None:
        return None
    try:
        # A millisecond more, since Redis may count its time-out from a clock tick before.
        wait = ("BLPOP", wake_key, round(seconds, 3) + 0.001)
        (came,) = mine.sleeper.exchange(wait, repeatable=False)
    except redis.RedisError as error:
        mine.sleeper.disconnect()
        logger().warning("Redis went away while it was waited in", extra={"reason": repr(error)})
        return None
    return came is not None


def disconnect() -> None:
    """Close the connections of this thread. The next use opens others."""
    mine = _of_this_thread
    for nodes in (mine.nodes, mine.sleeper):
        if nodes is not None:
            nodes.disconnect()
    mine.__dict__.clear()
    mine.pause = _Pause()


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    length_ms: int = 0

    def lengthen(self) -> None:
        first, last = settings().redis_pause_ms_min, settings().redis_pause_ms_max
        self.length_ms = min(max(first, 2 * self.length_ms), last)
        self.until = time.monotonic() + self.length_ms / 1_000


@dataclass
class _Thread(threading.local):
    """What this thread has: most functions have just one."""

    nodes: Nodes | None = None
    """For requests."""
    sleeper: Nodes | None = None
    """May be kept waiting, for as long as the prompt expiry stays."""
    pause: _Pause = field(default_factory=_Pause)


_of_this_thread = _Thread()


def _nodes(answer_seconds_max: float) -> Nodes | None:
    snapstart.opened(disconnect)
    return Nodes(answer_seconds_max) if settings().redis_url else None
