"""Hints in Redis that save queries to Postgres. Never the source of truth; every use fails open.

Keeps four kinds, all derived from Postgres: responses by Idempotency-Key, sold-out markers of
resources, the deadlines of live holds, and a signal that events may be unpublished.
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from openreserve.cache.connection import execute, wait
from openreserve.domain.errors import OutOfStock
from openreserve.domain.reservations import Deadline, HoldRequest, Reservation
from openreserve.domain.resources import Item
from openreserve.runtime.settings import settings

_DEADLINES = "{deadlines}"
_EARLIER = "{deadlines}:earlier"
_NEWS = "news"
_SIGNAL_TTL_SECONDS = 60
_RETURNED_TTL_MS = 60_000
"""Longer than any request runs that could write a sold-out marker from before a return of stock."""

# Writes the marker only if no stock was returned since the caller read it. Otherwise the marker
# would be older than the stock.
_MARK_SOLD_OUT = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
"""


# Adds deadlines, and wakes the function that waits for the earliest one if it has changed.
_ADD_DEADLINES = """
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
if redis.call('ZRANGE', KEYS[1], 0, 0)[1] ~= first then
    redis.call('LPUSH', KEYS[2], '')
    redis.call('LTRIM', KEYS[2], 0, 0)
    redis.call('EXPIRE', KEYS[2], ARGV[1])
end
"""

# Wakes the publisher that waits for events, or the next one.
_SIGNAL_NEWS = """
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('LPUSH', KEYS[1], '')
    redis.call('EXPIRE', KEYS[1], ARGV[1])
end
"""


@dataclass(frozen=True, slots=True)
class Recalled:
    """The hints for a request to reserve."""

    answer: tuple[UUID, str] | None = None
    """The token and the body of the response to the same request."""
    shortage: dict[str, Any] | None = None
    """`resourceId`, `requested` and `available` of its only item, if a sold-out marker exists."""
    returned: str = ""
    """The id of the last return of the item's stock, for `mark_sold_out`."""


def recall(order: HoldRequest) -> Recalled:
    """The hints for the request, in one round trip. None of them, if Redis is unavailable.

    A shortage is returned only for a request with one item: a refusal lists every short item, and
    not all of them need to have a marker. Also only if the key is new: an earlier request with this
    key may have made its hold in an environment that stopped before it wrote to Redis, and the
    repeat must return that hold.
    """
    answer_key = _answer_key(order.key)
    lookups: list[tuple[Any, ...]] = [
        ("GET", answer_key),
        ("SET", answer_key, "", "NX", "EX", settings().replay_seconds),
        *(("GET", key) for key in _stock_keys(order.items[0].resource_id)),
    ]
    replies = execute(*lookups)
    if replies is None:
        return Recalled()
    answer, _, available, returned = replies
    may_refuse = (
        answer is None
        and available is not None
        and len(order.items) == 1
        and 1 <= order.ttl_seconds <= settings().ttl_seconds_max  # else ttl_out_of_range is first
    )
    return Recalled(
        answer=_same_request(order, answer),
        shortage=_shortage(order.items[0], int(available)) if may_refuse else None,
        returned=(returned or b"").decode(),
    )


def remember_hold(order: HoldRequest, hold: Reservation, view: str) -> None:
    """Store the response for a repeat of the request, and the deadline for the prompt expiry."""
    answer = f"{order.request_hash.hex()} {hold.token} {view}"
    execute(
        ("SET", _answer_key(order.key), answer, "EX", settings().replay_seconds),
        _add_deadlines([Deadline(hold.expires_at, hold.token)]),
        _signal_news(),
    )


def remember_deadlines(deadlines: Sequence[Deadline]) -> None:
    """Write deadlines of live holds again: Redis may have lost them."""
    if deadlines:
        execute(_add_deadlines(deadlines))


def forget_holds(*tokens: UUID) -> None:
    """Remove the deadlines of settled holds."""
    if tokens:
        execute(("ZREM", _key(_DEADLINES), *map(str, tokens)), _signal_news())


def wait_for_due(seconds: float, limit: int) -> list[UUID] | None:
    """Up to `limit` expired holds, as soon as there are any; an empty list after `seconds`.

    Waits in Redis until the earliest deadline. A new hold with an earlier one ends the wait. None:
    Redis is unavailable.
    """
    now_ms = int(time.time() * 1_000)
    replies = execute(
        ("ZRANGEBYSCORE", _key(_DEADLINES), "-inf", now_ms, "LIMIT", 0, limit),
        ("ZRANGE", _key(_DEADLINES), 0, 0, "WITHSCORES"),
    )
    if replies is None:
        return None
    due, first = replies
    if due:
        return [UUID(token.decode()) for token in due]
    if first:
        seconds = min(seconds, (float(first[1]) - now_ms) / 1_000)
    return [] if seconds <= 0 or wait(seconds, _key(_EARLIER)) is not None else None


def wait_for_news(seconds: float) -> bool | None:
    """Wait in Redis until a request may have written an event, and return whether one may have.

    A signal without a waiting publisher is kept for a minute. None: Redis is unavailable.
    """
    return wait(seconds, _key(_NEWS))


def mark_sold_out(order: HoldRequest, recalled: Recalled, refusal: OutOfStock) -> None:
    """Write a sold-out marker, so that further refusals need no query to Postgres.

    It expires at the earliest deadline of a live hold on the resource: from then on the units of
    that hold are available, also if Redis gets no signal.
    """
    life_ms = settings().sold_out_ms_max
    if refusal.short_for_ms is not None:
        life_ms = min(life_ms, refusal.short_for_ms)
    if len(order.items) == 1 and life_ms > 0:
        (short,) = refusal.details["items"]
        keys = _stock_keys(short["resourceId"])
        execute(("EVAL", _MARK_SOLD_OUT, 2, *keys, recalled.returned, short["available"], life_ms))


def stock_returned(*resource_ids: str, settled: UUID | None = None) -> None:
    """Stock was returned: delete sold-out markers, and the deadline of the settled hold."""
    commands: list[tuple[Any, ...]] = []
    for resource_id in resource_ids:
        marker, returned = _stock_keys(resource_id)
        commands += [("SET", returned, uuid4().hex, "PX", _RETURNED_TTL_MS), ("DEL", marker)]
    if settled is not None:
        commands.append(("ZREM", _key(_DEADLINES), str(settled)))
    execute(*commands, _signal_news())


def ping() -> bool | None:
    """Whether Redis answers in time. None: Redis is not configured."""
    if not settings().redis_url:
        return None
    return execute(("PING",)) is not None


def _same_request(order: HoldRequest, answer: bytes | None) -> tuple[UUID, str] | None:
    """The answer, unless the key belongs to a different request, which Postgres then refuses."""
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
    return ("EVAL", _ADD_DEADLINES, 2, *keys, _SIGNAL_TTL_SECONDS, *scores)


def _signal_news() -> tuple[Any, ...]:
    """Signals after each change, because the caller does not know whether it wrote an event."""
    return ("EVAL", _SIGNAL_NEWS, 1, _key(_NEWS), _SIGNAL_TTL_SECONDS)


def _shortage(item: Item, available: int) -> dict[str, Any] | None:
    if available >= item.quantity:
        return None
    return {"resourceId": item.resource_id, "requested": item.quantity, "available": available}


def _answer_key(idempotency_key: str) -> str:
    """Hashed, because clients choose their keys: any length, any character."""
    digest = hashlib.blake2b(idempotency_key.encode(), digest_size=16).digest()
    return _key(f"answer:{base64.urlsafe_b64encode(digest).decode().rstrip('=')}")


def _stock_keys(resource_id: str) -> tuple[str, str]:
    """The keys of the sold-out marker and of the last return. A script reads both, hence one slot.

    A cluster computes the slot from the text between the first `{` and the next `}`, if it is not
    empty. The `=` is for ids that begin with `}`.
    """
    tag = f"{{={resource_id}}}"
    return _key(f"{tag}:sold-out"), _key(f"{tag}:returned")


def _key(name: str) -> str:
    """With the prefix: a restore of Postgres changes it, which invalidates all older keys."""
    return f"{settings().redis_key_prefix}:{name}"
