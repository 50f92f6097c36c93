"""Resources in Postgres: set, adjust, read and list stock. Each function is one round trip."""

from collections.abc import Sequence

from openreserve.domain.errors import (
    BelowAllocated,
    IdempotencyKeyReused,
    ResourceNotFound,
    TotalOutOfRange,
    VersionMismatch,
)
from openreserve.domain.resources import TOTAL_STOCK_MAX, Adjustment, Resource, Total
from openreserve.postgres import connection
from openreserve.runtime.settings import settings


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
    row = connection.row(
        "resources",
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


def find_resource(resource_id: str) -> Resource:
    """The resource as it stands now: units of holds past their deadline are available.

    Raises:
        ResourceNotFound: there is none.
    """
    for row in connection.rows("resources", "find_resource", resource_id=resource_id):
        return Resource(**row)
    raise ResourceNotFound(resourceId=resource_id)


def list_resources(prefix: str, after: str, limit: int) -> list[Resource]:
    """At most `limit` resources whose ids start with the prefix and sort behind `after`."""
    rows = connection.rows(
        "resources",
        "list_resources",
        prefix=prefix,
        after=after,
        limit=limit,
    )
    return [Resource(**row) for row in rows]


def set_stock_of_many(totals: Sequence[Total]) -> list[tuple[str, int | None]]:
    """Create these resources or set their totals, one after the other as they come.

    For each one `created`, `changed`, `unchanged`, or `below_allocated` and the units that are held
    or committed. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: some may have been set; ask again.
    """
    row = connection.rows(
        "resources",
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
        IdempotencyKeyReused: the key belongs to another adjustment.
        ResourceNotFound, TotalOutOfRange: what the names say; nothing was changed.
        BelowAllocated: `allocatedStock` units are held or committed; nothing was changed.
        Contention, DatabaseUnavailable: ask again with the same key.
    """
    row = connection.rows(
        "resources",
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
            raise IdempotencyKeyReused
        case "unknown_resource":
            raise ResourceNotFound(resourceId=resource_id)
        case "total_out_of_range":
            raise TotalOutOfRange(totalStockMax=TOTAL_STOCK_MAX)
        case "below_allocated":
            raise BelowAllocated(totalStock=row["total"], allocatedStock=row["allocated"])
    made = Adjustment(resource_id, difference, reason, row["total"], row["made_at"])
    return made, row["outcome"] == "replayed"
