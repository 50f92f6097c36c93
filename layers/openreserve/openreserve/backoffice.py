"""What operators ask of Postgres, over the API. Each function is one round trip."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from openreserve import database
from openreserve.errors import BelowAllocated, KeyReused, ResourceUnknown, TotalOutOfRange
from openreserve.holds import SETTLED, Listed, Reservation, Status
from openreserve.settings import settings
from openreserve.sql import statements
from openreserve.stock import TOTAL_STOCK_MAX, Adjustment, Item, Total

LOOKED_AT_PER_ROW = 5
"""How many reservations are looked at for each that a page with a status may have. So a page costs
the same however rare the status is, and may have few rows, or none, and yet a next page."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def set_stock_of_many(totals: Sequence[Total]) -> list[tuple[str, int | None]]:
    """Create these resources or set their totals, one after the other as they come.

    For each one `created`, `changed`, `unchanged`, or `below_allocated` and the units that are held
    or committed. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: some may have been set; ask again.
    """
    row = _all(
        "set_stock_of_many",
        resource_ids=[total.resource_id for total in totals],
        totals=[total.total_stock for total in totals],
        reclaim_batch_size=settings().reclaim_batch_size,
    )[0]
    return list(zip(row["outcomes"] or (), row["allocated"] or (), strict=True))


def adjust_stock(
    key: str, resource_id: str, difference: int, reason: str
) -> tuple[Adjustment, bool]:
    """Move a total by a difference, once, and whether this is a replay.

    A repeat with the key moves nothing more and returns the adjustment as it was first made.

    Raises:
        KeyReused: the key belongs to another adjustment.
        ResourceUnknown, TotalOutOfRange: what the names say; nothing was changed.
        BelowAllocated: `allocatedStock` units are held or committed; nothing was changed.
        Contention, DatabaseUnavailable: ask again with the same key.
    """
    row = _all(
        "adjust_stock",
        key=key,
        resource_id=resource_id,
        difference=difference,
        reason=reason,
        total_max=TOTAL_STOCK_MAX,
        reclaim_batch_size=settings().reclaim_batch_size,
    )[0]
    match row["outcome"]:
        case "key_reused":
            raise KeyReused
        case "unknown_resource":
            raise ResourceUnknown(resourceId=resource_id)
        case "total_out_of_range":
            raise TotalOutOfRange(totalStockMax=TOTAL_STOCK_MAX)
        case "below_allocated":
            raise BelowAllocated(totalStock=row["total"], allocatedStock=row["allocated"])
    made = Adjustment(resource_id, difference, reason, row["total"], row["made_at"])
    return made, row["outcome"] == "replayed"


def list_reservations(
    resource_id: str | None, status: Status | None, after: Listed, limit: int
) -> tuple[list[Reservation], Listed | None]:
    """At most `limit` reservations behind the place, and the place to go on from; None: the end.

    First those that nobody has settled or closed, the first to expire first; then all others, in
    no order that means anything. None that is there throughout is missed; one that is settled
    meanwhile may be listed twice.
    """
    if after == Listed() and status not in (None, Status.HELD, Status.EXPIRED):
        after = SETTLED
    looked_at = limit if status is None else limit * LOOKED_AT_PER_ROW
    rows = _all(
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
        return _reservations(wanted), None
    else:
        return _reservations(wanted), SETTLED
    place = Listed(last["token"], last["listed_at"], settled=after.settled)
    return _reservations(wanted[:limit]), place


def _all(name: str, **parameters: Any) -> list[database.Row]:
    return database.fetch_all(getattr(statements("backoffice"), name), parameters)


def _reservations(rows: Sequence[database.Row]) -> list[Reservation]:
    return [
        Reservation(
            token=row["token"],
            items=tuple(map(Item, row["resource_ids"], row["quantities"])),
            status=Status(row["status"]),
            expires_at=row["expires_at"],
            reacquired=row["reacquired"],
        )
        for row in rows
    ]
