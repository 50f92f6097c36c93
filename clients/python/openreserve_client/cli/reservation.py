"""`openreserve reservation`."""

from itertools import islice
from uuid import UUID

import click

from openreserve.cli import api, output
from openreserve.cli.ids import ResourceId
from openreserve.cli.stock import limit_option
from openreserve.domain.reservations import Reservation, Status

token_argument = click.argument("token", type=click.UUID)


@click.group()
def reservation() -> None:
    """Show, list and release reservations. Whoever knows a token can settle its reservation."""


@reservation.command()
@token_argument
@output.json_option
def show(token: UUID, *, as_json: bool) -> None:
    """Show a reservation as it stands."""
    with api.client() as client:
        _write(client.read_reservation(token), as_json=as_json)


@reservation.command()
@token_argument
@output.json_option
def release(token: UUID, *, as_json: bool) -> None:
    """Give a hold back. A repeat does nothing more."""
    with api.client() as client:
        _write(client.release(token), as_json=as_json)


@reservation.command("list")
@click.option(
    "-r",
    "--resource",
    "resource_id",
    metavar="ID",
    type=ResourceId(),
    help="Only those of this resource.",
)
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status], case_sensitive=False),
    help="Only those that stand so.",
)
@limit_option
@output.json_option
def list_reservations(
    resource_id: str | None, status: str | None, limit: int | None, *, as_json: bool
) -> None:
    """List reservations: those that hold stock first, by deadline; then the others."""
    with api.client() as client:
        wanted = None if status is None else Status(status)
        found = islice(client.list_reservations(resource_id, wanted), limit)
        if as_json:
            for one in found:
                output.write_json(one)
            return
        output.write_table(
            ["TOKEN", "STATUS", "EXPIRES", "ITEMS"],
            ((one.token, one.status, one.expires_at, _items(one)) for one in found),
        )


def _write(found: Reservation, *, as_json: bool) -> None:
    if as_json:
        output.write_json(found)
        return
    click.echo(f"Reservation : {found.token}")
    click.echo(output.RULE)
    click.echo(f"Status  : {found.status}{' (reacquired)' if found.reacquired else ''}")
    click.echo(f"Expires : {output.instant(found.expires_at)}")
    click.echo(f"Items   : {_items(found)}")
    click.echo(output.RULE)


def _items(found: Reservation) -> str:
    return ", ".join(f"{item.quantity} x {item.resource_id}" for item in found.items)
