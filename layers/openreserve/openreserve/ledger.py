"""The verbs and reads on Postgres, where the truth is. Each function is one round trip."""

from typing import Any
from uuid import UUID

from openreserve import database
from openreserve.errors import (
    BelowAllocated,
    HoldExpired,
    KeyReused,
    OutOfStock,
    ReservationUnknown,
    ResourceUnknown,
    TtlOutOfRange,
    VersionMismatch,
)
from openreserve.holds import (
    AFTER_COMMIT,
    AFTER_RELEASE,
    Order,
    Reservation,
    Status,
    settled,
)
from openreserve.settings import settings
from openreserve.sql import statements
from openreserve.stock import Event, Item, Place, Resource


def reserve(order: Order, token: UUID) -> tuple[Reservation, bool]:
    """Hold all items of the order under the token, or none; and whether this is a replay.

    A repeat of the same order, at any time, holds nothing more and returns the reservation as it
    was first made, under its first token: so the caller that never heard the answer can ask again.
    Expired holds of what is short are closed before anything is refused.

    Raises:
        KeyReused: the key belongs to another order.
        KeyInProgress: an order with this key is under way and took too long to wait for.
        ResourceUnknown: `resourceId` names the first one that is not there.
        TtlOutOfRange: shorter than a second, or longer than `ttlSecondsMax`.
        OutOfStock: `items` names every short one, with `requested` and `available`; `short_for_ms`
            is when the first hold on a short one ends, None if none is live.
        Contention, DatabaseUnavailable: ask again with the same key.
    """
    row = _only(
        "verbs",
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
            raise KeyReused
        case "unknown_resource":
            raise ResourceUnknown(resourceId=row["unknown_id"])
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
        ReservationUnknown, HoldExpired, AlreadyReleased, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: ask again.
    """
    rows = _all("verbs", "commit", token=token)
    return settled(_reservation(rows), AFTER_COMMIT)


def reacquire(token: UUID) -> Reservation:
    """Commit a hold, also one that is over if all its units can be had again. A repeat as commit.

    Raises:
        HoldExpired: it is over and `items` names every short item; nothing was changed.
        ReservationUnknown, AlreadyReleased, AlreadyCancelled, Contention, DatabaseUnavailable:
            as commit.
    """
    row = _only("verbs", "reacquire", token=token, reclaim_batch_size=settings().reclaim_batch_size)
    match row["outcome"]:
        case "unknown_token":
            raise ReservationUnknown
        case "out_of_stock":
            raise HoldExpired(reservationStatus=Status.EXPIRED.value, items=row["shortages"])
    return settled(_reservation([{**row, "token": token}]), AFTER_COMMIT)


def release(token: UUID) -> Reservation:
    """Give a hold back: RELEASED, or EXPIRED if it was over. A repeat returns the same.

    Raises:
        ReservationUnknown, AlreadyCommitted, AlreadyCancelled: nothing was changed.
        Contention, DatabaseUnavailable: ask again.
    """
    rows = _all("verbs", "release", token=token)
    return settled(_reservation(rows), AFTER_RELEASE)


def set_stock(resource_id: str, total_stock: int, expected_version: int | None) -> bool:
    """Create the resource or set its total, and return whether it was created.

    `expected_version` 0: only create. Reservations are never touched: what is available moves by
    the difference. A repeat changes nothing, unless it expects a version: then it is refused, as
    the first call moved it on.

    Raises:
        VersionMismatch: `version` is the present one, None if there is no such resource.
        BelowAllocated: `allocatedStock` units are held or committed.
        Contention, DatabaseUnavailable: ask again.
    """
    row = _only(
        "verbs",
        "set_stock",
        repeatable=expected_version is None,
        resource_id=resource_id,
        total_stock=total_stock,
        expected_version=expected_version,
        reclaim_batch_size=settings().reclaim_batch_size,
    )
    match row["outcome"]:
        case "version_mismatch":
            raise VersionMismatch(version=row["version"])
        case "below_allocated":
            raise BelowAllocated(totalStock=total_stock, allocatedStock=row["allocated"])
    return bool(row["outcome"] == "created")


def find_reservation(token: UUID) -> Reservation:
    """The reservation as it stands now: a hold past its deadline is EXPIRED.

    Raises:
        ReservationUnknown: there is none.
    """
    return _reservation(_all("reads", "find_reservation", token=token))


def find_resource(resource_id: str) -> Resource:
    """The resource as it stands now: units of holds past their deadline are available.

    Raises:
        ResourceUnknown: there is none.
    """
    for row in _all("reads", "find_resource", resource_id=resource_id):
        return Resource(**row)
    raise ResourceUnknown(resourceId=resource_id)


def list_resources(prefix: str, after: str, limit: int) -> list[Resource]:
    """At most `limit` resources whose ids start with the prefix and sort behind `after`."""
    rows = _all(
        "reads",
        "list_resources",
        prefix=prefix,
        after=after,
        limit=limit,
    )
    return [Resource(**row) for row in rows]


def list_events(after: Place, limit: int) -> list[Event]:
    """At most `limit` events behind the place, in the order in which nothing is ever missed."""
    rows = _all(
        "reads",
        "list_events",
        written_by=str(after.written_by),
        position=after.position,
        limit=limit,
    )
    return [event(row) for row in rows]


def event(row: database.Row) -> Event:
    """The event that a row of the table tells of."""
    return Event(
        event_id=row["event_id"],
        type=row["type"],
        resource_id=row["resource_id"],
        value=row["value"],
        sequence=row["sequence"],
        tokens=tuple(row["tokens"]),
        created_at=row["created_at"],
        place=Place(int(row["written_by"]), row["position"]),
    )


def find_place_before_newest(count: int) -> Place:
    """The place from which on so many events are listed; the beginning, if there are not as many.

    An event that comes meanwhile is listed behind them.
    """
    for row in _all("reads", "find_place_before_newest", count=count):
        return Place(int(row["written_by"]), row["position"])
    return Place()


def ping() -> int:
    """The number of the newest migration that Postgres has.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    return int(_only("reads", "ping")["schema_number"])


def _all(file: str, name: str, *, repeatable: bool = True, **parameters: Any) -> list[database.Row]:
    statement: str = getattr(statements(file), name)
    return database.fetch_all(statement, parameters, repeatable=repeatable)


def _only(file: str, name: str, *, repeatable: bool = True, **parameters: Any) -> database.Row:
    return _all(file, name, repeatable=repeatable, **parameters)[0]


def _reservation(rows: list[database.Row]) -> Reservation:
    for row in rows:
        return Reservation(
            token=row["token"],
            items=tuple(map(Item, row["resource_ids"], row["quantities"])),
            status=Status(row["status"]),
            expires_at=row["expires_at"],
            reacquired=row["reacquired"],
        )
    raise ReservationUnknown
