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

    `expected_version` 0: only create. Reservations are not changed: available_stock changes by the
    difference. A repeat changes nothing. With an `expected_version` a repeat is refused, because
    the first call changed the version; so the statement is not sent twice.

    Raises:
        VersionMismatch: `version` is the present one, None if the resource does not exist.
        BelowAllocated: `allocatedStock` units are held or committed.
        Contention: nothing was changed; repeat the call.
        DatabaseUnavailable: the outcome may be unknown; repeat the call.
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
    """The resource at this moment: units of holds past their deadline are available.

    Raises:
        ResourceNotFound: the resource does not exist.
    """
    for row in connection.rows("resources", "find_resource", resource_id=resource_id):
        return Resource(**row)
    raise ResourceNotFound(resourceId=resource_id)


def list_resources(prefix: str, after: str, limit: int) -> list[Resource]:
    """At most `limit` resources whose ids start with the prefix and sort after `after`."""
    rows = connection.rows(
        "resources",
        "list_resources",
        prefix=prefix,
        after=after,
        limit=limit,
    )
    return [Resource(**row) for row in rows]


def set_stock_of_many(totals: Sequence[Total]) -> list[tuple[str, int | None]]:
    """Create these resources or set their totals, in this order, each in its own transaction.

    For each one `created`, `changed`, `unchanged`, or `below_allocated` with the units that are
    held or committed. A repeat changes nothing.

    Raises:
        Contention, DatabaseUnavailable: some may have been set; repeat the call.
    """
    row = connection.row(
        "resources",
        "set_stock_of_many",
        resource_ids=[total.resource_id for total in totals],
        totals=[total.total_stock for total in totals],
        reclaim_batch_size=settings().reclaim_batch_size,
    )
    return list(zip(row["outcomes"] or (), row["allocated"] or (), strict=True))


def adjust_stock(
    key: str, resource_id: str, difference: int, reason: str
) -> tuple[Adjustment, bool]:
    """Change a total by a difference, once per key; and whether this is a replay.

    A repeat with the key changes nothing and returns the first adjustment.

    Raises:
        IdempotencyKeyReused: the key belongs to a different adjustment.
        ResourceNotFound, TotalOutOfRange: nothing was changed.
        BelowAllocated: `allocatedStock` units are held or committed; nothing was changed.
        Contention, DatabaseUnavailable: repeat with the same key.
    """
    row = connection.row(
        "resources",
        "adjust_stock",
        key=key,
        resource_id=resource_id,
        difference=difference,
        reason=reason,
        total_max=TOTAL_STOCK_MAX,
        reclaim_batch_size=settings().reclaim_batch_size,
    )
    match row["outcome"]:
        case "key_reused":
            raise IdempotencyKeyReused
        case "unknown_resource":
            raise ResourceNotFound(resourceId=resource_id)
        case "total_out_of_range":
            raise TotalOutOfRange(totalStockMax=TOTAL_STOCK_MAX)
        case "below_allocated":
            raise BelowAllocated(totalStock=row["total"], allocatedStock=row["allocated"])
    adjustment = Adjustment(resource_id, difference, reason, row["total"], row["made_at"])
    return adjustment, row["outcome"] == "replayed"
