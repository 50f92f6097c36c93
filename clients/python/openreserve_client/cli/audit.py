"""`openreserve verify` and `openreserve repair`: on Postgres, not over the API."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from openreserve_client.cli import output
from openreserve_client.cli.audit_results import AuditFailed, Check, Drift, Repair
from openreserve_client.cli.checkout import ROOT
from openreserve_client.cli.command_error import CommandError
from openreserve_client.cli.ids import ResourceId
from openreserve_client.cli.seconds import Seconds

READER_ROLE = "openreserve_reader"

database_option = click.option(
    "--database-url",
    metavar="URL",
    envvar="OPENRESERVE_DATABASE_URL",
    show_envvar=True,
    help="Connection URL of Postgres.  [default: the database of make run at --server]",
)
stage_option = click.option(
    "--stage",
    metavar="NAME",
    help="Stage on AWS, such as dev. Runs in its AuditFunction, next to its Postgres.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=Seconds(min_open=True),
    default=600,
    show_default=True,
    help="Timeout of the check, and of each repair. With --stage at most 15 minutes.",
)


@click.command()
@database_option
@stage_option
@timeout_option
@output.json_option
@click.pass_context
def verify(
    context: click.Context,
    database_url: str | None,
    stage: str | None,
    timeout_seconds: float,
    *,
    as_json: bool,
) -> int:
    """Check that the stock counters agree with the reservations.

    Recomputes the counters of all resources in one snapshot, while traffic continues, and prints
    those that differ. Needs a role that can read all tables, such as openreserve_reader.

    Exit code: 0 if all counters agree, 1 if some do not, 2 if the check could not run.
    """
    check = _checked(_Target(context, database_url, stage), timeout_seconds)
    if as_json:
        output.write_json(check)
    else:
        _write_check(check)
    return 1 if check.drift else 0


@click.command()
@database_option
@stage_option
@timeout_option
@click.option(
    "-r",
    "--resource",
    "resource_ids",
    metavar="ID",
    type=ResourceId(),
    multiple=True,
    help="Repair only this resource. Can be given several times.",
)
@click.option("--apply", is_flag=True, help="Repair. Without it, only print the repairs.")
@click.option("--reason", metavar="TEXT", help="Reason, for the record. Required with --apply.")
@output.json_option
@click.pass_context
def repair(
    context: click.Context, /, resource_ids: tuple[str, ...], reason: str | None, **options: Any
) -> int:
    """Set wrong stock counters to the values that the reservations give.

    Prints what it would change; with --apply, changes it. Reservations and totals are never
    changed. Each repair is recorded with its reason in the table openreserve.repairs. Needs a role
    that can write, such as openreserve_app.

    Exit code: 0 if no drift is left, 1 if some is, 2 if the repair could not run.
    """
    if options["apply"] and not reason:
        raise click.UsageError("--apply needs a --reason.")
    target = _Target(context, options["database_url"], options["stage"])
    check = _checked(target, options["timeout_seconds"])
    drift = [row for row in check.drift if not resource_ids or row.resource_id in resource_ids]
    if not options["apply"]:
        return _write_plan(drift, as_json=options["as_json"])
    remaining = check.not_listed
    try:
        drifting_ids = [row.resource_id for row in drift]
        for resource_id, result in target.repair(
            drifting_ids, reason or "", options["timeout_seconds"]
        ):
            remaining += result.outcome not in ("repaired", "clean")
            _write_repair(resource_id, result, as_json=options["as_json"])
    except AuditFailed as error:
        raise CommandError(f"could_not_repair: {error}", 2) from error
    if not drift and not options["as_json"]:
        click.echo("Nothing to repair.")
    return 1 if remaining else 0


@dataclass(frozen=True, slots=True)
class _Target:
    """The database that the options name; by default that of `make run`."""

    context: click.Context
    database_url: str | None
    stage: str | None

    def __post_init__(self) -> None:
        source = self.context.get_parameter_source("database_url")
        if self.stage is not None and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--stage and --database-url are mutually exclusive.")

    def check(self, timeout_seconds: float) -> Check:
        if self.stage is not None:
            from openreserve_client.cli import stages  # noqa: PLC0415 - only --stage needs it

            return stages.check(self.stage, timeout_seconds)
        from openreserve_client.cli import local_audit  # noqa: PLC0415 - not with --stage

        if self.database_url is not None:
            return local_audit.check(self.database_url, timeout_seconds)
        return local_audit.check(_local_url(self.context), timeout_seconds, user=READER_ROLE)

    def repair(
        self, resource_ids: list[str], reason: str, timeout_seconds: float
    ) -> Iterator[tuple[str, Repair]]:
        if self.stage is not None:
            from openreserve_client.cli import stages  # noqa: PLC0415 - only --stage needs it

            return stages.repair(self.stage, resource_ids, reason, timeout_seconds)
        from openreserve_client.cli import local_audit  # noqa: PLC0415 - not with --stage

        url = self.database_url or _local_url(self.context)
        return local_audit.repair(url, resource_ids, reason, timeout_seconds)


def _checked(target: _Target, timeout_seconds: float) -> Check:
    try:
        return target.check(timeout_seconds)
    except AuditFailed as error:
        raise CommandError(f"could_not_check: {error}", 2) from error


def _local_url(context: click.Context) -> str:
    """The URL of the Postgres that `make run` started: it writes it to its state folder."""
    server = urlsplit(context.find_root().obj["server_url"])
    if server.hostname in ("localhost", "127.0.0.1", "::1"):
        for folder in (Path.cwd(), ROOT):
            file = folder / ".openreserve" / str(server.port or 80) / "database-url"
            if file.exists():
                return file.read_text()
    raise CommandError("could_not_check: no database: use --database-url or --stage", 2)


def _write_check(check: Check) -> None:
    output.write_table(
        ["RESOURCE", "TOTAL", "AVAILABLE", "HELD", "COMMITTED", "OFF BY", "WRONG MARKS"],
        (
            (
                row.resource_id,
                row.total_stock,
                row.available_stock,
                row.held_stock,
                row.committed_stock,
                -row.difference,
                row.wrong_marks,
            )
            for row in check.drift
        ),
    )
    sys.stdout.flush()
    checked = f"{check.resources:,} resources and {check.reservations:,} reservations"
    if check.drift:
        drifting = len(check.drift) + check.not_listed
        click.echo(f"{drifting:,} of {checked} do not agree.", err=True)
    else:
        click.echo(f"{checked} agree.")


def _write_plan(drift: list[Drift], *, as_json: bool) -> int:
    for row in drift:
        if as_json:
            output.write_json(row)
            continue
        after = row.available_stock + row.difference
        marks = f", and correct {row.wrong_marks} marks" if row.wrong_marks else ""
        if after < 0:
            click.echo(_oversold(row.resource_id, -after))
        else:
            click.echo(
                f"{row.resource_id}: would set available {row.available_stock} to {after}{marks}"
            )
    if not drift and not as_json:
        click.echo("Nothing to repair.")
    return 1 if drift else 0


def _write_repair(resource_id: str, result: Repair, *, as_json: bool) -> None:
    if as_json:
        fields: dict[str, Any] = {
            "resourceId": resource_id,
            "outcome": result.outcome,
            "difference": result.difference,
            "marksMended": result.marks_mended,
        }
        output.write_json(fields)
    elif result.outcome == "repaired":
        marks = f", corrected {result.marks_mended} marks" if result.marks_mended else ""
        click.echo(f"{resource_id}: changed available by {result.difference:+}{marks}")
    elif result.outcome == "oversold":
        click.echo(_oversold(resource_id, result.difference))
    else:
        click.echo(f"{resource_id}: {result.outcome}")


def _oversold(resource_id: str, units: int) -> str:
    return f"{resource_id}: oversold by {units}; raise its total, or cancel reservations"
