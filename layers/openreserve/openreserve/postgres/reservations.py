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

SCANNED_PER_ROW = 5
"""How many reservations are scanned for each row of a page that is filtered by status. This bounds
the cost of a page for a rare status; such a page may have few or no rows and still a next page."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def reserve(order: HoldRequest, token: UUID) -> tuple[Reservation, bool]:
    """Hold all items of the request under the token, or none; and whether this is a replay.

    A repeat of the same request, at any time, holds nothing more and returns the reservation as
    first created, under its first token: a client that lost the response can repeat the request.
    Expired holds of short resources are closed before the request is refused.

    Raises:
        IdempotencyKeyReused: the key belongs to a different request.
        IdempotencyInProgress: a request with this key is in progress, and the wait timed out.
        ResourceNotFound: `resourceId` is the first one that does not exist.
        TtlOutOfRange: below one second, or above `ttlSecondsMax`.
        OutOfStock: `items` has every short resource, with `requested` and `available`;
            `short_for_ms` is the time until the earliest deadline of a live hold on one of them,
            None if there is no live hold.
        Contention, DatabaseUnavailable: repeat with the same key.
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
            hold = Reservation(row["token"], order.items, Status.HELD, row["expires_at"])
            return hold, outcome == "replayed"
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
    """Commit a live hold. A repeat returns the same reservation.

    Raises:
        ReservationNotFound, HoldExpired, AlreadyReleased, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: repeat the call.
    """
    rows = connection.rows("reservations", "commit", token=token)
    return settled(_only(rows), AFTER_COMMIT)


def reacquire(token: UUID) -> Reservation:
    """Commit a hold, also an expired one if all its units are available again. Repeats as commit.

    Raises:
        HoldExpired: it has expired, and `items` has every short item; nothing was changed.
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
    """Release a hold: RELEASED, or EXPIRED after its deadline. A repeat returns the same.

    Raises:
        ReservationNotFound, AlreadyCommitted, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: repeat the call.
    """
    rows = connection.rows("reservations", "release", token=token)
    return settled(_only(rows), AFTER_RELEASE)


def find_reservation(token: UUID) -> Reservation:
    """The reservation at this moment: a hold past its deadline is EXPIRED.

    Raises:
        ReservationNotFound: no reservation has this token.
    """
    return _only(connection.rows("reservations", "find_reservation", token=token))


def list_reservations(
    resource_id: str | None, status: Status | None, after: ReservationCursor, limit: int
) -> tuple[list[Reservation], ReservationCursor | None]:
    """At most `limit` reservations after the cursor, and the next cursor; None: the end.

    First those with stored status HELD, by deadline; then all others, by token. A reservation that
    exists throughout is never missed; one that is settled in the meantime may be listed twice.
    """
    if after == ReservationCursor() and status not in (None, Status.HELD, Status.EXPIRED):
        after = SETTLED
    scanned = limit if status is None else limit * SCANNED_PER_ROW
    rows = connection.rows(
        "reservations",
        f"list_{'settled' if after.settled else 'held'}{'_of_resource' if resource_id else ''}",
        resource_id=resource_id,
        after=after.expires_at or _BEGINNING,
        after_token=after.token,
        limit=scanned,
    )
    matching = [row for row in rows if status in (None, row["status"])]
    if len(matching) > limit:
        last = matching[limit - 1]
    elif len(rows) == scanned:
        last = rows[-1]
    elif after.settled or status is Status.HELD:
        return [_reservation(row) for row in matching], None
    else:
        return [_reservation(row) for row in matching], SETTLED
    cursor = ReservationCursor(last["token"], last["listed_at"], settled=after.settled)
    return [_reservation(row) for row in matching[:limit]], cursor


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
