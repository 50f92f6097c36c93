"""`openreserve verify` and `openreserve repair`: on Postgres, not over the API."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from openreserve.cli import output
from openreserve.cli.checkout import ROOT
from openreserve.cli.ids import ResourceId
from openreserve.cli.seconds import Seconds
from openreserve.cli.told import CommandError
from openreserve.postgres import audit
from openreserve.postgres.audit import AuditFailed, Check, Drift

READER = "openreserve_reader"

database_option = click.option(
    "--database-url",
    metavar="URL",
    envvar="OPENRESERVE_DATABASE_URL",
    show_envvar=True,
    help="Where Postgres is.  [default: that of make run, on the port of --server]",
)
stage_option = click.option(
    "--stage",
    metavar="NAME",
    help="A stage on AWS, such as dev: its AuditFunction does it, beside its Postgres.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=Seconds(min_open=True),
    default=600,
    show_default=True,
    help="How long the check may take, and each repair; on AWS 15 minutes at most.",
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
    """Recompute the counters of all resources from the reservations, in one snapshot.

    Traffic may go on meanwhile. Needs a role that may read all, such as openreserve_reader. Exits
    with 0 if all agree, 1 if some do not, each of which is printed, and 2 if it could not check.
    """
    found = _checked(_Where(context, database_url, stage), timeout_seconds)
    if as_json:
        output.write_json(found)
        return 1 if found.drift else 0
    _write(found)
    return 1 if found.drift else 0


@click.command()
@database_option
@stage_option
@timeout_option
@click.option(
    "-r",
    "--resource",
    "wanted",
    metavar="ID",
    type=ResourceId(),
    multiple=True,
    help="Only this one.",
)
@click.option("--apply", is_flag=True, help="Do it. Without this, only say what would be done.")
@click.option("--reason", metavar="TEXT", help="Why; it is kept. Needed with --apply.")
@output.json_option
@click.pass_context
def repair(
    context: click.Context, /, wanted: tuple[str, ...], reason: str | None, **options: Any
) -> int:
    """Make the counters what the reservations say. Only says so, without --apply.

    The reservations are the truth: neither they nor totals are changed. Each repair is kept with
    its reason, in the table openreserve.repairs. Needs a role that may write, such as
    openreserve_app. Exits with 0 if nothing is left to mend, 1 if something is, and 2 if it could
    not run.
    """
    if options["apply"] and not reason:
        raise click.UsageError("--apply needs a --reason.")
    where = _Where(context, options["database_url"], options["stage"])
    found = _checked(where, options["timeout_seconds"])
    drift = [row for row in found.drift if not wanted or row.resource_id in wanted]
    if not options["apply"]:
        return _told(drift, as_json=options["as_json"])
    left = found.not_listed
    try:
        ids = [row.resource_id for row in drift]
        for resource_id, done in where.repair(ids, reason or "", options["timeout_seconds"]):
            left += done.outcome not in ("repaired", "clean")
            _write_repair(resource_id, done, as_json=options["as_json"])
    except AuditFailed as error:
        raise CommandError(f"could_not_repair: {error}", 2) from error
    if not drift and not options["as_json"]:
        click.echo("There is nothing to mend.")
    return 1 if left else 0


@dataclass(frozen=True, slots=True)
class _Where:
    """The Postgres that the options name; without any, that of `make run`."""

    context: click.Context
    database_url: str | None
    stage: str | None

    def __post_init__(self) -> None:
        given = self.context.get_parameter_source("database_url")
        if self.stage is not None and given is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--stage and --database-url exclude each other.")

    def check(self, timeout_seconds: float) -> Check:
        if self.stage is not None:
            from openreserve.cli import stages  # noqa: PLC0415 - with --stage alone

            return stages.check(self.stage, timeout_seconds)
        if self.database_url is not None:
            return audit.check(self.database_url, timeout_seconds)
        return audit.check(_local_url(self.context), timeout_seconds, user=READER)

    def repair(
        self, ids: list[str], reason: str, timeout_seconds: float
    ) -> Iterator[tuple[str, audit.Repair]]:
        if self.stage is not None:
            from openreserve.cli import stages  # noqa: PLC0415

            return stages.repair(self.stage, ids, reason, timeout_seconds)
        url = self.database_url or _local_url(self.context)
        return audit.repair(url, ids, reason, timeout_seconds)


def _checked(where: _Where, timeout_seconds: float) -> Check:
    try:
        return where.check(timeout_seconds)
    except AuditFailed as error:
        raise CommandError(f"could_not_check: {error}", 2) from error


def _local_url(context: click.Context) -> str:
    """Where the Postgres of `make run` is: it writes that into its state folder."""
    server = urlsplit(context.find_root().obj["server_url"])
    if server.hostname in ("localhost", "127.0.0.1", "::1"):
        for folder in (Path.cwd(), ROOT):
            file = folder / ".openreserve" / str(server.port or 80) / "database-url"
            if file.exists():
                return file.read_text()
    raise CommandError("could_not_check: say where Postgres is: --database-url, or --stage", 2)


def _write(found: Check) -> None:
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
            for row in found.drift
        ),
    )
    sys.stdout.flush()
    checked = f"{found.resources:,} resources and {found.reservations:,} reservations"
    if found.drift:
        drifting = len(found.drift) + found.not_listed
        click.echo(f"{drifting:,} of {checked} do not agree.", err=True)
    else:
        click.echo(f"{checked} agree.")


def _told(drift: list[Drift], *, as_json: bool) -> int:
    for row in drift:
        if as_json:
            output.write_json(row)
            continue
        after = row.available_stock + row.difference
        marks = f", and {row.wrong_marks} marks" if row.wrong_marks else ""
        if after < 0:
            click.echo(f"{row.resource_id}: oversold by {-after}; raise its total, or cancel")
        else:
            click.echo(
                f"{row.resource_id}: would set available {row.available_stock} to {after}{marks}"
            )
    if not drift and not as_json:
        click.echo("There is nothing to mend.")
    return 1 if drift else 0


def _write_repair(resource_id: str, done: audit.Repair, *, as_json: bool) -> None:
    if as_json:
        fields: dict[str, Any] = {
            "resourceId": resource_id,
            "outcome": done.outcome,
            "difference": done.difference,
            "marksMended": done.marks_mended,
        }
        output.write_json(fields)
    elif done.outcome == "repaired":
        marks = f", mended {done.marks_mended} marks" if done.marks_mended else ""
        click.echo(f"{resource_id}: moved available by {done.difference:+}{marks}")
    elif done.outcome == "oversold":
        click.echo(f"{resource_id}: oversold by {done.difference}; raise its total, or cancel")
    else:
        click.echo(f"{resource_id}: {done.outcome}")
