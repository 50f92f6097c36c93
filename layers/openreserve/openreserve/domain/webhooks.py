"""Webhook endpoints, subscriptions, retries and URL checks. Pure: no clock, no randomness, no I/O.

Follows Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

ENDPOINT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""Part of the name of a secret and of a message group id: valid characters in both."""
SECRETS_MAX = 2
"""The present secret and the previous one, so that receivers can rotate without a gap."""
DELAY_SECONDS_MAX = 43_200 - 300
"""SQS limits the visibility timeout to 12 hours from the receipt of the message."""
SLOW_SECONDS = 2
"""The response time from which an endpoint counts as slow."""
SLOW_FOR_SECONDS = 600
"""How long an endpoint counts as slow at least; at most twice as long."""

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
    """A URL that is subscribed to events."""

    endpoint_id: str
    url: str
    events: tuple[str, ...] = ()
    """The event types of the subscription; empty: all."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The signing secrets, the newest first."""
    disabled: str = ""
    """When and why it was disabled; empty: it is enabled."""

    def wants(self, event_type: str) -> bool:
        """Whether it is enabled and subscribed to events of this type."""
        return not self.disabled and (not self.events or event_type in self.events)


class SlowEndpoints:
    """The endpoints that were slow recently. All moments are seconds of one clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, endpoint_id: str, now: float, chance: float) -> None:
        """Record that an endpoint was slow. `chance`, from 0 to 1, spreads the expiry."""
        self._until[endpoint_id] = now + SLOW_FOR_SECONDS * (1 + chance)

    def is_slow(self, endpoint_id: str, now: float) -> bool:
        """Whether it was slow within the last minutes."""
        return now < self._until.get(endpoint_id, now)


@dataclass(frozen=True, slots=True)
class Message:
    """An event in a queue."""

    content: str
    """The event in JSON: exactly these bytes are signed and delivered."""
    endpoint_id: str = ""
    """Its endpoint; empty: it is not fanned out to the subscribed endpoints yet."""
    attempts: int = 0
    """Delivery attempts before it was sent to this queue."""
    delay_seconds: int = 0
    """Its DelaySeconds in SQS, at most SEND_DELAY_SECONDS_MAX."""
    due_at: int = 0
    """In seconds since the epoch. 0: it is due at its first receipt."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    message: Message
    attempts: int
    sent_at_ms: int
    receipt: str


class Verdict(StrEnum):
    """The result of a delivery attempt."""

    DELIVERED = "delivered"
    GONE = "gone"
    """410: the endpoint does not accept events any more."""
    FAILED = "failed"


def verdict(status: int) -> Verdict:
    """The result for an HTTP status. A redirect is a failure: redirects are not followed."""
    if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110
        return Verdict.DELIVERED
    return Verdict.GONE if status == 410 else Verdict.FAILED  # noqa: PLR2004 - likewise


def delay_seconds(
    attempt: int, schedule: Sequence[int], retry_after_seconds: int, chance: float
) -> int:
    """The wait after the failure of this attempt; attempts count from 1.

    `schedule`: the waits between attempts. `retry_after_seconds`: the Retry-After of the response,
    which is the minimum. `chance`, from 0 to 1, spreads the wait by 10% in both directions, so that
    deliveries that failed together are not retried together. 0 after the last attempt, which the
    dead-letter queue follows.
    """
    if attempt > len(schedule):
        return 0
    spread = schedule[attempt - 1] * (0.9 + 0.2 * chance)
    return min(max(round(spread), retry_after_seconds), DELAY_SECONDS_MAX)


def url_fault(url: str, *, development: bool) -> str:
    """Why this URL is not a valid target of deliveries; empty if it is valid.

    `development` also allows http. The addresses of its host are checked at each delivery.
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
    """Whether this is a unicast address of the public Internet.

    Rejects IPv4 addresses embedded in IPv6 (mapped, NAT64, 6to4, Teredo), multicast, and protocol
    assignments. `is_global` accepts some of them.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return ip.is_global and not any(ip in network for network in _NOT_PUBLIC_4)
    return (
        ip.is_global
        and ip in _GLOBAL_UNICAST
        and not any(ip in network for network in _NOT_PUBLIC_6)
    )


_NOT_PUBLIC_4: tuple[IPv4Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # the only range that IANA has allocated for it
_NOT_PUBLIC_6: tuple[IPv6Network, ...] = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2002::/16"),  # 6to4: contains an IPv4 address
    IPv6Network("3fff::/20"),  # documentation
)
