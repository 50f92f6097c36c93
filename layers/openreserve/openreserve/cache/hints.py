"""What Redis remembers, to save time: it is never asked for the truth, and may vanish.

Holds four things, all of which Postgres has too: answers by Idempotency-Key, which resources were
just found sold out, the deadlines of live holds, and that there is news. Every use fails open.
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from openreserve.cache.connection import ask, sleep
from openreserve.domain.errors import OutOfStock
from openreserve.domain.reservations import Deadline, HoldRequest, Reservation
from openreserve.domain.resources import Item
from openreserve.runtime.settings import settings

_DEADLINES = "{deadlines}"
_EARLIER = "{deadlines}:earlier"
_NEWS = "news"
_SIGNAL_KEPT_SECONDS = 60
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

# Wakes whoever waits for news, or the next one who does.
_TELL_NEWS = """
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('LPUSH', KEYS[1], '')
    redis.call('EXPIRE', KEYS[1], ARGV[1])
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


def recall(order: HoldRequest) -> Recalled:
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
    replies = ask(*lookups)
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


def remember_hold(order: HoldRequest, hold: Reservation, view: str) -> None:
    """Keep the answer for a repeat of the order, and the deadline for the prompt expiry."""
    answer = f"{order.request_hash.hex()} {hold.token} {view}"
    ask(
        ("SET", _answer_key(order.key), answer, "EX", settings().replay_seconds),
        _add_deadlines([Deadline(hold.expires_at, hold.token)]),
        _tell_news(),
    )


def remember_deadlines(deadlines: Sequence[Deadline]) -> None:
    """Write deadlines of live holds anew: Redis may have lost them."""
    if deadlines:
        ask(_add_deadlines(deadlines))


def forget_holds(*tokens: UUID) -> None:
    """The holds were settled: nobody has to wait for their deadlines."""
    if tokens:
        ask(("ZREM", _key(_DEADLINES), *map(str, tokens)), _tell_news())


def wait_for_due(seconds: float, limit: int) -> list[UUID] | None:
    """Up to `limit` holds that are over, as soon as there are any; none after so many seconds.

    Sleeps in Redis until the first deadline, and is woken when a hold comes that ends before that.
    None: Redis is away.
    """
    now_ms = int(time.time() * 1_000)
    found = ask(
        ("ZRANGEBYSCORE", _key(_DEADLINES), "-inf", now_ms, "LIMIT", 0, limit),
        ("ZRANGE", _key(_DEADLINES), 0, 0, "WITHSCORES"),
    )
    if found is None:
        return None
    due, first = found
    if due:
        return [UUID(token.decode()) for token in due]
    if first:
        seconds = min(seconds, (float(first[1]) - now_ms) / 1_000)
    return [] if seconds <= 0 or sleep(seconds, _key(_EARLIER)) is not None else None


def wait_for_news(seconds: float) -> bool | None:
    """Sleep in Redis until a call may have written an event, and whether one may have. None: away.

    News that came while nobody waited is kept for a minute.
    """
    return sleep(seconds, _key(_NEWS))


def mark_sold_out(order: HoldRequest, recalled: Recalled, refusal: OutOfStock) -> None:
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
        ask(("EVAL", _MARK_SOLD_OUT, 2, *keys, recalled.returned, short["available"], life_ms))


def stock_returned(*resource_ids: str, settled: UUID | None = None) -> None:
    """Stock came back: forget that these were sold out, and the deadline of the settled hold."""
    commands: list[tuple[Any, ...]] = []
    for resource_id in resource_ids:
        marker, returns = _stock_keys(resource_id)
        commands += [("SET", returns, uuid4().hex, "PX", _RETURNS_KEPT_MS), ("DEL", marker)]
    if settled is not None:
        commands.append(("ZREM", _key(_DEADLINES), str(settled)))
    ask(*commands, _tell_news())


def ping() -> bool | None:
    """Whether Redis answers in time. None: there is none."""
    if not settings().redis_url:
        return None
    return ask(("PING",)) is not None


def _same_request(order: HoldRequest, answer: bytes | None) -> tuple[UUID, str] | None:
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
    keys = (_key(_DEADLINES), _key(_EARLIER))
    return ("EVAL", _ADD_DEADLINES, 2, *keys, _SIGNAL_KEPT_SECONDS, *scores)


def _tell_news() -> tuple[Any, ...]:
    """Whoever changed something says so, without knowing whether an event came of it."""
    return ("EVAL", _TELL_NEWS, 1, _key(_NEWS), _SIGNAL_KEPT_SECONDS)


def _shortage(item: Item, available: int) -> dict[str, Any] | None:
    if available >= item.quantity:
        return None
    return {"resourceId": item.resource_id, "requested": item.quantity, "available": available}


def _answer_key(idempotency_key: str) -> str:
    """Hashed, since callers choose their keys: any length, any character."""
    digest = hashlib.blake2b(idempotency_key.encode(), digest_size=16).digest()
    return _key(f"answer:{base64.urlsafe_b64encode(digest).decode().rstrip('=')}")


def _stock_keys(resource_id: str) -> tuple[str, str]:
    """The marker, and the mark of the last return. A script reads both, so both are in one slot.

    A cluster computes the slot from what is between the first `{` and the first `}` behind it, if
    there is anything. The `=` is for ids that begin with `}`.
    """
    tag = f"{{={resource_id}}}"
    return _key(f"{tag}:sold-out"), _key(f"{tag}:returned")


def _key(name: str) -> str:
    """After a restore of Postgres the prefix is another one, and nothing from before is found."""
    return f"{settings().redis_key_prefix}:{name}"
