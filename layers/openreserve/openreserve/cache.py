"""The border to Redis, which may vanish: it saves time and is never asked for the truth.

Holds three things, all of which Postgres has too: answers by Idempotency-Key, which resources were
just found sold out, and the deadlines of live holds. Every use fails open.
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.retry import Retry

from openreserve.errors import OutOfStock
from openreserve.holds import Deadline, Order, Reservation
from openreserve.logs import logger
from openreserve.settings import settings
from openreserve.stock import Item

_PREFIX = "openreserve"
_DEADLINES = f"{_PREFIX}:{{deadlines}}"
_EARLIER = f"{_PREFIX}:{{deadlines}}:earlier"
_EARLIER_KEPT_SECONDS = 60
_RETURNS_KEPT_MS = 60_000
"""Longer than any request lives that could still write a sold-out marker from before a return."""

# Writes the marker only if no stock came back since the caller looked, for else the marker would
# be older than the stock.
_MARK_SOLD_OUT = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
"""


# Adds deadlines, and wakes whoever sleeps until the first one if there is an earlier one now.
_ADD_DEADLINES = """
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
if redis.call('ZRANGE', KEYS[1], 0, 0)[1] ~= first then
    redis.call('LPUSH', KEYS[2], '')
    redis.call('LTRIM', KEYS[2], 0, 0)
    redis.call('EXPIRE', KEYS[2], ARGV[1])
end
"""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What Redis knew of an order before Postgres was asked."""

    answer: tuple[UUID, str] | None = None
    """The token and the body that answered this very order before."""
    shortage: dict[str, Any] | None = None
    """`resourceId`, `requested` and `available` of its only item, if that was just found short."""
    returned: str = ""
    """Which return of the item's stock was the last, for `mark_sold_out`."""


def recall(order: Order) -> Recalled:
    """What is known of the order, in one round trip. Nothing, when Redis is away.

    Only a single item can be known to be short: a refusal names every short item, and markers
    need not know them all. And only to an order whose key was never tried: one that was may have
    its hold, made by an environment that died before it could tell Redis, and gets it back.
    """
    answer_key = _answer_key(order.key)
    lookups: list[tuple[Any, ...]] = [
        ("GET", answer_key),
        ("SET", answer_key, "", "NX", "EX", settings().replay_seconds),
        *(("GET", key) for key in _stock_keys(order.items[0].resource_id)),
    ]
    replies = _ask(*lookups)
    if replies is None:
        return Recalled()
    answer, _, available, returned = replies
    may_refuse = (
        answer is None
        and available is not None
        and len(order.items) == 1
        and 1 <= order.ttl_seconds <= settings().ttl_seconds_max  # or that is told first
    )
    return Recalled(
        answer=_same_request(order, answer),
        shortage=_shortage(order.items[0], int(available)) if may_refuse else None,
        returned=(returned or b"").decode(),
    )


def remember_hold(order: Order, hold: Reservation, view: str) -> None:
    """Keep the answer for a repeat of the order, and the deadline for the prompt expiry."""
    answer = f"{order.request_hash.hex()} {hold.token} {view}"
    _ask(
        ("SET", _answer_key(order.key), answer, "EX", settings().replay_seconds),
        _add_deadlines([Deadline(hold.expires_at, hold.token)]),
    )


def remember_deadlines(deadlines: Sequence[Deadline]) -> None:
    """Write deadlines of live holds anew: Redis may have lost them."""
    if deadlines:
        _ask(_add_deadlines(deadlines))


def forget_holds(*tokens: UUID) -> None:
    """The holds were settled: nobody has to wait for their deadlines."""
    if tokens:
        _ask(("ZREM", _DEADLINES, *map(str, tokens)))


def wait_for_due(seconds: float, limit: int) -> list[UUID] | None:
    """Up to `limit` holds that are over, as soon as there are any; none after so many seconds.

    Sleeps in Redis until the first deadline, and is woken when a hold comes that ends before that.
    None: Redis is away.
    """
    now_ms = int(time.time() * 1_000)
    found = _ask(
        ("ZRANGEBYSCORE", _DEADLINES, "-inf", now_ms, "LIMIT", 0, limit),
        ("ZRANGE", _DEADLINES, 0, 0, "WITHSCORES"),
    )
    if found is None:
        return None
    due, first = found
    if due:
        return [UUID(token.decode()) for token in due]
    if first:
        seconds = min(seconds, (float(first[1]) - now_ms) / 1_000)
    return [] if _sleep(seconds) else None


def mark_sold_out(order: Order, recalled: Recalled, refusal: OutOfStock) -> None:
    """Let repeats of a refusal skip Postgres, until stock comes back or could.

    It could when the first live hold on the resource ends: from then on its units are to be had,
    whether or not anybody has told Redis.
    """
    life_ms = settings().sold_out_ms_max
    if refusal.short_for_ms is not None:
        life_ms = min(life_ms, refusal.short_for_ms)
    if len(order.items) == 1 and life_ms > 0:
        (short,) = refusal.details["items"]
        keys = _stock_keys(short["resourceId"])
        _ask(("EVAL", _MARK_SOLD_OUT, 2, *keys, recalled.returned, short["available"], life_ms))


def stock_returned(*resource_ids: str, settled: UUID | None = None) -> None:
    """Stock came back: forget that these were sold out, and the deadline of the settled hold."""
    commands: list[tuple[Any, ...]] = []
    for resource_id in resource_ids:
        marker, returns = _stock_keys(resource_id)
        commands += [("SET", returns, uuid4().hex, "PX", _RETURNS_KEPT_MS), ("DEL", marker)]
    if settled is not None:
        commands.append(("ZREM", _DEADLINES, str(settled)))
    _ask(*commands)


def ping() -> bool | None:
    """Whether Redis answers in time. None: there is none."""
    if not settings().redis_url:
        return None
    return _ask(("PING",)) is not None


def _same_request(order: Order, answer: bytes | None) -> tuple[UUID, str] | None:
    """The answer, unless the key has answered another request: Postgres says what that means."""
    request_hash, _, rest = (answer or b"").decode().partition(" ")
    if request_hash != order.request_hash.hex():
        return None
    token, _, body = rest.partition(" ")
    return UUID(token), body


def _add_deadlines(deadlines: Sequence[Deadline]) -> tuple[Any, ...]:
    scores: list[int | str] = []
    for deadline in deadlines:
        scores += [int(deadline.expires_at.timestamp() * 1_000), str(deadline.token)]
    return ("EVAL", _ADD_DEADLINES, 2, _DEADLINES, _EARLIER, _EARLIER_KEPT_SECONDS, *scores)


def _sleep(seconds: float) -> bool:
    """Wait in Redis, at most so long, for an earlier deadline. False: Redis went away."""
    sleeper = _sleeper()
    if sleeper is None or seconds <= 0:
        return sleeper is not None
    try:
        # A millisecond more, since Redis may count its time-out from a clock tick before.
        sleeper.execute_command("BLPOP", _EARLIER, round(seconds, 3) + 0.001)
    except redis.RedisError as error:
        sleeper.connection_pool.disconnect()
        logger().warning("Redis went away while it was waited in", extra={"reason": repr(error)})
        return False
    return True


def _shortage(item: Item, available: int) -> dict[str, Any] | None:
    if available >= item.quantity:
        return None
    return {"resourceId": item.resource_id, "requested": item.quantity, "available": available}


def _answer_key(idempotency_key: str) -> str:
    """Hashed, since callers choose their keys: any length, any character."""
    digest = hashlib.blake2b(idempotency_key.encode(), digest_size=16).digest()
    return f"{_PREFIX}:answer:{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _stock_keys(resource_id: str) -> tuple[str, str]:
    """The marker, and the mark of the last return. One hash tag: a script reads both."""
    return (
        f"{_PREFIX}:{{{resource_id}}}:sold-out",
        f"{_PREFIX}:{{{resource_id}}}:returned",
    )


def _ask(*commands: tuple[Any, ...]) -> list[Any] | None:
    """The replies to the commands, in one round trip; None: Redis is away, and left alone a while.

    Without the pause, each request would wait for the timeout of a Redis that hangs. It is short at
    first, since one late answer may mean nothing, and doubles for as long as none comes.
    """
    connection, pause = _connection(), _pause()
    if connection is None or time.monotonic() < pause.until:
        return None
    try:
        replies = _exchange(connection, commands)
    except redis.RedisError as error:
        connection.disconnect()  # what it still has to say answers nothing any more
        pause.lengthen()
        logger().warning("Redis is left alone for a while", extra={"reason": repr(error)})
        return None
    pause.length_ms = 0
    return replies


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


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    length_ms: int = 0

    def lengthen(self) -> None:
        first, last = settings().redis_pause_ms_min, settings().redis_pause_ms_max
        self.length_ms = min(max(first, 2 * self.length_ms), last)
        self.until = time.monotonic() + self.length_ms / 1_000


@cache
def _pause() -> _Pause:
    return _Pause()


@cache
def _connection() -> ConnectionInterface | None:
    """The one that requests use; it connects when it is first used, and again when it was lost."""
    pool = _pool(settings().redis_timeout_ms / 1_000)
    return None if pool is None else pool.make_connection()


@cache
def _sleeper() -> redis.Redis | None:
    """A client that may be kept waiting, for as long as the prompt expiry stays."""
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
