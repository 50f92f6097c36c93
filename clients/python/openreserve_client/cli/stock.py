"""`openreserve stock`."""

from itertools import islice

import click

from openreserve_client.cli import api, output
from openreserve_client.cli.ids import ResourceId, ResourcePrefix
from openreserve_client.cli.lazy import LazyGroup

_PACKAGE = "openreserve_client.cli"
_TARGETS = {
    "check": (f"{_PACKAGE}.stock:check", "Show the stock of a resource."),
    "set": (f"{_PACKAGE}.stock:set_total", "Create a resource, or set its total."),
    "adjust": (f"{_PACKAGE}.stock:adjust", "Change a total by a difference, with a reason."),
    "list": (f"{_PACKAGE}.stock:list_resources", "List resources."),
    "import": (
        f"{_PACKAGE}.stock_import:import_file",
        "Create resources, or set their totals, from a CSV file.",
    ),
}

resource_option = click.option(
    "-r",
    "--resource",
    "resource_id",
    metavar="ID",
    type=ResourceId(),
    required=True,
    help="Id of the resource.",
)
limit_option = click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="Maximum number.  [default: all]"
)


@click.group(cls=LazyGroup, targets=_TARGETS)
def stock() -> None:
    """Show, set, adjust, list and import stock."""


@click.command()
@resource_option
@output.json_option
def check(resource_id: str, *, as_json: bool) -> None:
    """Show the total, available, held and committed stock of a resource."""
    with api.client() as client:
        resource = client.read_resource(resource_id)
    output.write_json(resource) if as_json else click.echo(output.panel(resource))


@click.command("set")
@resource_option
@click.option(
    "-t",
    "--total",
    metavar="N",
    type=click.IntRange(min=0),
    required=True,
    help="Total number of units.",
)
@click.option(
    "--if-version",
    "version",
    metavar="V",
    type=click.IntRange(min=1),
    help="Fail if the total was changed since this version.",
)
@output.json_option
def set_total(resource_id: str, total: int, version: int | None, *, as_json: bool) -> None:
    """Create a resource, or set its total number of units.

    Held and committed units do not change; the available units change by the difference. Fails if
    more units are held or committed than the new total.
    """
    with api.client() as client:
        resource = client.set_stock(resource_id, total, version)
    output.write_json(resource) if as_json else click.echo(output.panel(resource))


@click.command()
@resource_option
@click.option(
    "--by",
    "difference",
    metavar="N",
    type=int,
    required=True,
    help="Units to add, such as 5, or to remove, such as -5.",
)
@click.option("--reason", metavar="TEXT", required=True, help="Reason, for the record.")
@click.option(
    "--key",
    metavar="KEY",
    help="Idempotency key: a repeat of the command with this key changes nothing.",
)
@output.json_option
def adjust(
    resource_id: str, difference: int, reason: str, key: str | None, *, as_json: bool
) -> None:
    """Change the total of a resource by a difference, and record the reason."""
    with api.client() as client:
        adjustment = client.adjust_stock(resource_id, difference, reason, key=key)
    if as_json:
        output.write_json(adjustment)
    else:
        click.echo(f"{resource_id}: {difference:+}, new total {adjustment.total_stock} ({reason})")


@click.command("list")
@click.option(
    "--prefix",
    metavar="TEXT",
    type=ResourcePrefix(),
    default="",
    help="Only resources whose ids have this prefix.",
)
@limit_option
@output.json_option
def list_resources(prefix: str, limit: int | None, *, as_json: bool) -> None:
    """List resources, ordered by id."""
    with api.client() as client:
        resources = islice(client.list_resources(prefix), limit)
        if as_json:
            for resource in resources:
                output.write_json(resource)
            return
        output.write_table(
            ["RESOURCE", "TOTAL", "AVAILABLE", "HELD", "COMMITTED", "VERSION", "UPDATED"],
            (
                (
                    resource.resource_id,
                    resource.total_stock,
                    resource.available_stock,
                    resource.held_stock,
                    resource.committed_stock,
                    resource.version,
                    resource.updated_at,
                )
                for resource in resources
            ),
        )
