"""The results of an audit, from the local database or from a stage's AuditFunction."""

from dataclasses import dataclass


class AuditFailed(Exception):
    """The check or the repair could not run."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A resource whose counter does not agree with its reservations.

    difference = total_stock - available_stock - held_stock - committed_stock; 0 if they agree.
    """

    resource_id: str
    total_stock: int
    available_stock: int
    """According to the counter."""
    held_stock: int
    """According to the reservations."""
    committed_stock: int
    """According to the reservations."""
    wrong_marks: int
    """Items whose held mark does not agree with their reservation."""
    difference: int
    """By how much the counter is too low; negative if it is too high."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check, all from one snapshot."""

    resources: int
    reservations: int
    drift: tuple[Drift, ...]
    not_listed: int = 0
    """Further resources with drift, which the stage did not list because there are too many."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair: clean, repaired, oversold or unknown_resource."""

    outcome: str
    difference: int
    """The change of available_stock; if oversold, the number of missing units."""
    marks_mended: int
    """Held marks that were corrected."""
