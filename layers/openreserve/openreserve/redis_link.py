"""The connection to Redis, which may vanish: never waited for long, and left alone after that.

One per thread. Knows no key and no command's meaning.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.retry import Retry

from openreserve import stopwatch
from openreserve.logs import logger
from openreserve.settings import settings


def ask(*commands: tuple[Any, ...]) -> list[Any] | None:
    """The replies to the commands, in one round trip; None: Redis is away, and left alone a while.

    Without the pause, each request would wait for the timeout of a Redis that hangs. It is short at
    first, since one late answer may mean nothing, and doubles for as long as none comes.
    """
    mine = _of_this_thread
    if mine.connection is None:
        mine.connection = _connection()
    if mine.connection is None or time.monotonic() < mine.pause.until:
        return None
    try:
        with stopwatch.measured("RedisDuration"):
            replies = _exchange(mine.connection, commands)
    except redis.RedisError as error:
        mine.connection.disconnect()  # what it still has to say answers nothing any more
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
        mine.sleeper = _sleeper()
    if mine.sleeper is None:
        return None
    try:
        # A millisecond more, since Redis may count its time-out from a clock tick before.
        came = mine.sleeper.execute_command("BLPOP", wake_key, round(seconds, 3) + 0.001)
    except redis.RedisError as error:
        mine.sleeper.connection_pool.disconnect()
        logger().warning("Redis went away while it was waited in", extra={"reason": repr(error)})
        return None
    return came is not None


def disconnect() -> None:
    """Close the connections of this thread. The next use opens others."""
    mine = _of_this_thread
    if mine.connection is not None:
        mine.connection.disconnect()
    if mine.sleeper is not None:
        mine.sleeper.connection_pool.disconnect()
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

    connection: ConnectionInterface | None = None
    """For requests. It connects when it is first used, and again when it was lost."""
    sleeper: redis.Redis | None = None
    """May be kept waiting, for as long as the prompt expiry stays."""
    pause: _Pause = field(default_factory=_Pause)


_of_this_thread = _Thread()


def _exchange(connection: ConnectionInterface, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send all commands, then read all replies.

    Over the bare connection: the library's client costs several times the CPU, mostly for choosing
    among connections, of which there is one, and for its own metrics.
    """
    packed = connection.pack_commands(commands)
    try:
        connection.send_packed_command(packed)
        return [connection.read_response() for _ in commands]
    except redis.ConnectionError:
        # It died while this environment was frozen. All commands may be carried out twice. A server
        # that does not answer in time, which is another error, is not asked again.
        connection.disconnect()
        connection.send_packed_command(packed)
        return [connection.read_response() for _ in commands]


def _connection() -> ConnectionInterface | None:
    pool = _pool(settings().redis_timeout_ms / 1_000)
    return None if pool is None else pool.make_connection()


def _sleeper() -> redis.Redis | None:
    pool = _pool(settings().expire_stay_seconds + 1)
    return None if pool is None else redis.Redis(connection_pool=pool)


def _pool(answer_seconds_max: float) -> redis.ConnectionPool | None:
    if not settings().redis_url:
        return None
    return redis.ConnectionPool.from_url(
        settings().redis_url,
        socket_timeout=answer_seconds_max,
        socket_connect_timeout=settings().redis_timeout_ms / 1_000,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )
