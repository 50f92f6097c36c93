"""Endpoints, what they want, and what their answers mean. Pure: no clock, no chance, no I/O.

After Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

ENDPOINT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""An id is part of a secret's name and of a message group's: this is what both can have."""
SECRETS_MAX = 2
"""The present one, and the one before it, so that receivers can change over in their own time."""
DELAY_SECONDS_MAX = 43_200 - 300
"""SQS hides a message for 12 hours at most, counted from when it was received."""
SLOW_SECONDS = 2
"""An endpoint that takes so long to answer is slow."""
SLOW_FOR_SECONDS = 600
"""How long that is remembered at least; at most twice as long."""

EVENT_TYPES = (
    "STOCK_DEPLETED",
    "STOCK_RESTORED",
    "RESERVATION_HELD",
    "RESERVATION_COMMITTED",
    "RESERVATION_RELEASED",
    "RESERVATION_EXPIRED",
    "RESERVATION_CANCELLED",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody's URL that wants to know of events."""

    endpoint_id: str
    url: str
    events: tuple[str, ...] = ()
    """The types it wants; empty: all."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What deliveries are signed with, the newest first."""
    disabled: str = ""
    """Since when and why it gets nothing; empty: it gets what it wants."""

    def wants(self, event_type: str) -> bool:
        """Whether events of this type are for it."""
        return not self.disabled and (not self.events or event_type in self.events)


class SlowEndpoints:
    """Which endpoints were slow of late. Each moment is in seconds of one clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, endpoint_id: str, now: float, chance: float) -> None:
        """It was slow now. `chance`, from 0 to 1: not all who noted it forget it at once."""
        self._until[endpoint_id] = now + SLOW_FOR_SECONDS * (1 + chance)

    def is_slow(self, endpoint_id: str, now: float) -> bool:
        """Whether it was slow within the last minutes."""
        return now < self._until.get(endpoint_id, now)


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way."""

    content: str
    """The event in JSON: these very bytes are signed and delivered."""
    endpoint_id: str = ""
    """Its endpoint; empty: it is still to be spread to the endpoints that subscribe to it."""
    attempts: int = 0
    """Attempts to deliver it that were made before it was sent to this queue."""
    delay_seconds: int = 0
    """How long SQS keeps it back, at most SEND_DELAY_SECONDS_MAX."""
    due_at: int = 0
    """In seconds since the epoch. 0: it is due when SQS shows it."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up."""

    message: Message
    attempts: int
    sent_at_ms: int
    receipt: str


class Verdict(StrEnum):
    """What became of an attempt to deliver."""

    DELIVERED = "delivered"
    GONE = "gone"
    """The endpoint says that it wants nothing any more, now or later."""
    FAILED = "failed"


def verdict(status: int) -> Verdict:
    """What an answer means. A redirect is a failure: whoever moves tells us where to."""
    if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110
        return Verdict.DELIVERED
    return Verdict.GONE if status == 410 else Verdict.FAILED  # noqa: PLR2004 - likewise


def delay_seconds(attempt: int, schedule: Sequence[int], asked_seconds: int, chance: float) -> int:
    """How long to wait after the failure of this attempt, the first of which is 1.

    `schedule`: the waits between attempts. `asked_seconds`: what Retry-After asked for; it is
    waited for at least as long. `chance`, from 0 to 1, spreads the wait by a tenth both ways, so
    that what failed together does not come back together. 0 after the last attempt: what comes
    next is the dead-letter queue.
    """
    if attempt > len(schedule):
        return 0
    spread = schedule[attempt - 1] * (0.9 + 0.2 * chance)
    return min(max(round(spread), asked_seconds), DELAY_SECONDS_MAX)


def url_fault(url: str, *, development: bool) -> str:
    """Why deliveries can not go to this URL; empty, if they can as far as one can tell from it.

    `development` allows http, too. Where its name leads to is looked at with each delivery.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme != "https" and not (development and parts.scheme == "http"):
        return "must begin with https://" + (" or http://" if development else "")
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        return "must be an absolute URL in ASCII, with a host"
    if parts.username is not None or parts.fragment:
        return "must have neither a user nor a fragment"
    return ""


def is_public(address: str) -> bool:
    """Whether a machine at this address may be one of the public Internet, and no other.

    What leads elsewhere in disguise is not: IPv4 addresses within IPv6 ones (mapped, NAT64, 6to4,
    Teredo), multicast, and what is set aside for protocols. `is_global` lets some of them through.
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found.is_global and not any(found in network for network in _NOT_PUBLIC_4)
    return (
        found.is_global
        and found in _GLOBAL_UNICAST
        and not any(found in network for network in _NOT_PUBLIC_6)
    )


_NOT_PUBLIC_4: tuple[IPv4Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # the only one that IANA has given out
_NOT_PUBLIC_6: tuple[IPv6Network, ...] = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2002::/16"),  # 6to4: an IPv4 address stands in it
    IPv6Network("3fff::/20"),  # documentation
)
