"""`openreserve stock`: one resource at a time, or a list of them."""

from itertools import islice

import click

from openreserve.cli import api, output
from openreserve.cli.ids import ResourceId, ResourcePrefix
from openreserve.cli.lazy import LazyGroup

_TARGETS = {
    "check": ("openreserve.cli.stock:check", "Show how much there is of a resource."),
    "set": ("openreserve.cli.stock:set_total", "Create a resource, or set its total."),
    "adjust": ("openreserve.cli.stock:adjust", "Move a total by a difference, and say why."),
    "list": ("openreserve.cli.stock:list_resources", "List resources."),
    "import": ("openreserve.cli.stock_import:import_file", "Create or set many from a CSV file."),
}

resource_option = click.option(
    "-r",
    "--resource",
    "resource_id",
    metavar="ID",
    type=ResourceId(),
    required=True,
    help="The resource's id.",
)
limit_option = click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.  [default: all]"
)


@click.group(cls=LazyGroup, targets=_TARGETS)
def stock() -> None:
    """Check, set, adjust, list and import stock."""


@click.command()
@resource_option
@output.json_option
def check(resource_id: str, *, as_json: bool) -> None:
    """Show how much there is of a resource, and what is available."""
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
    help="How many units there are.",
)
@click.option(
    "--if-version",
    "version",
    metavar="V",
    type=click.IntRange(min=1),
    help="Refuse if the total was changed since this version.",
)
@output.json_option
def set_total(resource_id: str, total: int, version: int | None, *, as_json: bool) -> None:
    """Create a resource, or set how many units there are of it.

    What is held or committed stays so; what is available moves by the difference.
    """
    with api.client() as client:
        resource = client.set_stock(resource_id, total, version)
    output.write_json(resource) if as_json else click.echo(output.panel(resource))


@click.command()
@resource_option
@click.option(
    "--by", "difference", metavar="N", type=int, required=True, help="Units, such as 5 or -5."
)
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept.")
@click.option(
    "--key",
    metavar="KEY",
    help="Name this adjustment, so that the same command, run again, moves nothing more.",
)
@output.json_option
def adjust(
    resource_id: str, difference: int, reason: str, key: str | None, *, as_json: bool
) -> None:
    """Move a total by a difference, and say why."""
    with api.client() as client:
        made = client.adjust_stock(resource_id, difference, reason, key=key)
    if as_json:
        output.write_json(made)
    else:
        click.echo(f"{resource_id}: {difference:+}, now {made.total_stock} in all ({reason})")


@click.command("list")
@click.option(
    "--prefix",
    metavar="TEXT",
    type=ResourcePrefix(),
    default="",
    help="Only ids that start like this.",
)
@limit_option
@output.json_option
def list_resources(prefix: str, limit: int | None, *, as_json: bool) -> None:
    """List resources, by id."""
    with api.client() as client:
        found = islice(client.list_resources(prefix), limit)
        if as_json:
            for resource in found:
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
                for resource in found
            ),
        )
