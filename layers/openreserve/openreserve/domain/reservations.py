"""Reservations: what is asked for, what stands, and what each verb makes of it. Pure."""

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
    """Where a reservation stands. HELD comes first, then one other for ever, but for a cancel."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """One request to reserve, under its Idempotency-Key.

    `items` come from `stock.summed`: each resource once, in the order of the locks.
    """

    key: str
    request_hash: bytes
    items: tuple[Item, ...]
    ttl_seconds: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Some units of one or more resources, set aside under one token."""

    token: UUID
    items: tuple[Item, ...]
    status: Status
    expires_at: datetime
    reacquired: bool = False


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a live hold will be over."""

    expires_at: datetime
    token: UUID


_BEFORE_ANY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ReservationCursor:
    """A place in the list of reservations: behind this one. Without arguments, the beginning."""

    token: UUID = _BEFORE_ANY
    expires_at: datetime | None = None
    """The deadline of the hold there; None: the beginning, or among those that hold nothing."""
    settled: bool = False
    """Whether it is among those that hold nothing any more, which come second."""


SETTLED = ReservationCursor(settled=True)
"""The place before the first reservation that holds nothing any more."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What became of a batch of holds that were thought to be over."""

    lags_ms: tuple[int, ...]
    """How late each one was closed; as many as were closed."""
    still_held: frozenset[UUID]
    """Those asked for that are not over yet, or that somebody else is closing."""


AFTER_COMMIT: Mapping[Status, type[Refusal] | None] = {
    Status.COMMITTED: None,
    Status.EXPIRED: HoldExpired,
    Status.RELEASED: AlreadyReleased,
    Status.CANCELLED: AlreadyCancelled,
}
"""What commit answers, by where the reservation stands after it. HELD cannot be: a live hold was
committed, and one that is over reads EXPIRED."""

AFTER_RELEASE: Mapping[Status, type[Refusal] | None] = {
    Status.RELEASED: None,
    Status.EXPIRED: None,
    Status.COMMITTED: AlreadyCommitted,
    Status.CANCELLED: AlreadyCancelled,
}
"""What release answers, likewise."""


def settled(
    reservation: Reservation, answers: Mapping[Status, type[Refusal] | None]
) -> Reservation:
    """The reservation, if where it stands is what the verb wanted. Asked again, the same answer.

    Raises:
        Refusal: the one that `answers` has for its status, which `reservationStatus` repeats.
    """
    refusal = answers[reservation.status]
    if refusal is not None:
        raise refusal(reservationStatus=reservation.status.value, expiresAt=reservation.expires_at)
    return reservation
