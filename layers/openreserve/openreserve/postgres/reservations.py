"""Reservations in Postgres, the source of truth. Each function is one round trip."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from openreserve.domain.errors import (
    HoldExpired,
    IdempotencyKeyReused,
    OutOfStock,
    ReservationNotFound,
    ResourceNotFound,
    TtlOutOfRange,
)
from openreserve.domain.reservations import (
    AFTER_COMMIT,
    AFTER_RELEASE,
    SETTLED,
    HoldRequest,
    Reservation,
    ReservationCursor,
    Status,
    settled,
)
from openreserve.domain.resources import Item
from openreserve.postgres import connection
from openreserve.runtime.settings import settings

LOOKED_AT_PER_ROW = 5
"""How many reservations are looked at for each that a page with a status may have. So a page costs
the same however rare the status is, and may have few rows, or none, and yet a next page."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def reserve(order: HoldRequest, token: UUID) -> tuple[Reservation, bool]:
    """Hold all items of the order under the token, or none; and whether this is a replay.

    A repeat of the same order, at any time, holds nothing more and returns the reservation as it
    was first made, under its first token: so the caller that never heard the answer can ask again.
    Expired holds of what is short are closed before anything is refused.

    Raises:
        IdempotencyKeyReused: the key belongs to another order.
        IdempotencyInProgress: an order with this key is under way and took too long to wait for.
        ResourceNotFound: `resourceId` names the first one that is not there.
        TtlOutOfRange: shorter than a second, or longer than `ttlSecondsMax`.
        OutOfStock: `items` names every short one, with `requested` and `available`; `short_for_ms`
            is when the first hold on a short one ends, None if none is live.
        Contention, DatabaseUnavailable: ask again with the same key.
    """
    row = connection.row(
        "reservations",
        "reserve",
        key=order.key,
        hash=order.request_hash,
        token=token,
        resource_ids=[item.resource_id for item in order.items],
        quantities=[item.quantity for item in order.items],
        ttl_seconds=order.ttl_seconds,
        ttl_seconds_max=settings().ttl_seconds_max,
        reclaim_batch_size=settings().reclaim_batch_size,
    )
    match row["outcome"]:
        case "held" | "replayed" as outcome:
            made = Reservation(row["token"], order.items, Status.HELD, row["expires_at"])
            return made, outcome == "replayed"
        case "key_reused":
            raise IdempotencyKeyReused
        case "unknown_resource":
            raise ResourceNotFound(resourceId=row["unknown_id"])
        case "ttl_out_of_range":
            raise TtlOutOfRange(
                ttlSeconds=order.ttl_seconds, ttlSecondsMax=settings().ttl_seconds_max
            )
    refusal = OutOfStock(items=row["shortages"])
    refusal.short_for_ms = row["short_for_ms"]
    raise refusal


def commit(token: UUID) -> Reservation:
    """Settle a live hold for good. A repeat returns the same reservation.

    Raises:
        ReservationNotFound, HoldExpired, AlreadyReleased, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: ask again.
    """
    rows = connection.rows("reservations", "commit", token=token)
    return settled(_only(rows), AFTER_COMMIT)


def reacquire(token: UUID) -> Reservation:
    """Commit a hold, also one that is over if all its units can be had again. A repeat as commit.

    Raises:
        HoldExpired: it is over and `items` names every short item; nothing was changed.
        ReservationNotFound, AlreadyReleased, AlreadyCancelled, Contention, DatabaseUnavailable:
            as commit.
    """
    row = connection.row(
        "reservations", "reacquire", token=token, reclaim_batch_size=settings().reclaim_batch_size
    )
    match row["outcome"]:
        case "unknown_token":
            raise ReservationNotFound
        case "out_of_stock":
            raise HoldExpired(reservationStatus=Status.EXPIRED.value, items=row["shortages"])
    return settled(_reservation({**row, "token": token}), AFTER_COMMIT)


def release(token: UUID) -> Reservation:
    """Give a hold back: RELEASED, or EXPIRED if it was over. A repeat returns the same.

    Raises:
        ReservationNotFound, AlreadyCommitted, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: ask again.
    """
    rows = connection.rows("reservations", "release", token=token)
    return settled(_only(rows), AFTER_RELEASE)


def find_reservation(token: UUID) -> Reservation:
    """The reservation as it stands now: a hold past its deadline is EXPIRED.

    Raises:
        ReservationNotFound: there is none.
    """
    return _only(connection.rows("reservations", "find_reservation", token=token))


def list_reservations(
    resource_id: str | None, status: Status | None, after: ReservationCursor, limit: int
) -> tuple[list[Reservation], ReservationCursor | None]:
    """At most `limit` reservations behind the place, and the place to go on from; None: the end.

    First those that nobody has settled or closed, the first to expire first; then all others, in
    no order that means anything. None that is there throughout is missed; one that is settled
    meanwhile may be listed twice.
    """
    if after == ReservationCursor() and status not in (None, Status.HELD, Status.EXPIRED):
        after = SETTLED
    looked_at = limit if status is None else limit * LOOKED_AT_PER_ROW
    rows = connection.rows(
        "reservations",
        f"list_{'settled' if after.settled else 'held'}{'_of_resource' if resource_id else ''}",
        resource_id=resource_id,
        after=after.expires_at or _BEGINNING,
        after_token=after.token,
        limit=looked_at,
    )
    wanted = [row for row in rows if status in (None, row["status"])]
    if len(wanted) > limit:
        last = wanted[limit - 1]
    elif len(rows) == looked_at:
        last = rows[-1]
    elif after.settled or status is Status.HELD:
        return [_reservation(row) for row in wanted], None
    else:
        return [_reservation(row) for row in wanted], SETTLED
    place = ReservationCursor(last["token"], last["listed_at"], settled=after.settled)
    return [_reservation(row) for row in wanted[:limit]], place


def _only(rows: Sequence[connection.Row]) -> Reservation:
    for row in rows:
        return _reservation(row)
    raise ReservationNotFound


def _reservation(row: connection.Row) -> Reservation:
    return Reservation(
        token=row["token"],
        items=tuple(map(Item, row["resource_ids"], row["quantities"])),
        status=Status(row["status"]),
        expires_at=row["expires_at"],
        reacquired=row["reacquired"],
    )
