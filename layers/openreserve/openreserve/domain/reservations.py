"""Reservations: requests, statuses, and the results of verbs. Pure: no clock, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from openreserve.domain.errors import (
    AlreadyCancelled,
    AlreadyCommitted,
    AlreadyReleased,
    HoldExpired,
    Refusal,
)
from openreserve.domain.resources import Item


class Status(StrEnum):
    """The status of a reservation. HELD is the first. All others are final, except for a cancel."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """One request to reserve, with its Idempotency-Key.

    `items` come from `resources.summed`: each resource once, in the lock order.
    """

    key: str
    request_hash: bytes
    items: tuple[Item, ...]
    ttl_seconds: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Quantities of one or more resources, held or committed under one token."""

    token: UUID
    items: tuple[Item, ...]
    status: Status
    expires_at: datetime
    reacquired: bool = False
    """Whether it was committed after its deadline, with its stock taken again."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a live hold."""

    expires_at: datetime
    token: UUID


_TOKEN_MIN = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ReservationCursor:
    """A position in the list of reservations, after this one. Without arguments, the beginning."""

    token: UUID = _TOKEN_MIN
    expires_at: datetime | None = None
    """The deadline of the hold at this position; None at the beginning and for settled ones."""
    settled: bool = False
    """Whether the position is among the settled reservations, which are listed after the holds."""


SETTLED = ReservationCursor(settled=True)
"""The position before the first settled reservation."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The result of closing a batch of expired holds."""

    lags_ms: tuple[int, ...]
    """For each hold that was closed: the time since its deadline."""
    still_held: frozenset[UUID]
    """The requested holds that are live, or locked by another transaction."""


AFTER_COMMIT: Mapping[Status, type[Refusal] | None] = {
    Status.COMMITTED: None,
    Status.EXPIRED: HoldExpired,
    Status.RELEASED: AlreadyReleased,
    Status.CANCELLED: AlreadyCancelled,
}
"""The result of commit by the status after it; None: success. HELD is impossible: commit settles a
live hold, and an expired one reads as EXPIRED."""

AFTER_RELEASE: Mapping[Status, type[Refusal] | None] = {
    Status.RELEASED: None,
    Status.EXPIRED: None,
    Status.COMMITTED: AlreadyCommitted,
    Status.CANCELLED: AlreadyCancelled,
}
"""The result of release by the status after it; None: success."""


def settled(
    reservation: Reservation, refusals: Mapping[Status, type[Refusal] | None]
) -> Reservation:
    """The reservation, if the verb succeeded. A repeat has the same result.

    Raises:
        Refusal: the one that `refusals` has for its status, with the status in `reservationStatus`.
    """
    refusal = refusals[reservation.status]
    if refusal is not None:
        raise refusal(reservationStatus=reservation.status.value, expiresAt=reservation.expires_at)
    return reservation
