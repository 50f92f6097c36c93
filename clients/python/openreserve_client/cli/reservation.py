"""`openreserve reservation`."""

from itertools import islice
from uuid import UUID

import click

from openreserve_client.cli import api, output
from openreserve_client.cli.ids import ResourceId
from openreserve_client.cli.stock import limit_option
from openreserve_client.models import Reservation, Status

token_argument = click.argument("token", type=click.UUID)


@click.group()
def reservation() -> None:
    """Show, list and release reservations.

    A token authorizes commit and release of its reservation: keep tokens secret.
    """


@reservation.command()
@token_argument
@output.json_option
def show(token: UUID, *, as_json: bool) -> None:
    """Show a reservation."""
    with api.client() as client:
        _write(client.read_reservation(token), as_json=as_json)


@reservation.command()
@token_argument
@output.json_option
def release(token: UUID, *, as_json: bool) -> None:
    """Release a hold, so that its units are available again. Idempotent."""
    with api.client() as client:
        _write(client.release(token), as_json=as_json)


@reservation.command("list")
@click.option(
    "-r",
    "--resource",
    "resource_id",
    metavar="ID",
    type=ResourceId(),
    help="Only reservations of this resource.",
)
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status], case_sensitive=False),
    help="Only reservations with this status.",
)
@limit_option
@output.json_option
def list_reservations(
    resource_id: str | None, status: str | None, limit: int | None, *, as_json: bool
) -> None:
    """List reservations: first the holds, by deadline, then all others."""
    with api.client() as client:
        status_filter = None if status is None else Status(status)
        reservations = islice(client.list_reservations(resource_id, status_filter), limit)
        if as_json:
            for listed in reservations:
                output.write_json(listed)
            return
        output.write_table(
            ["TOKEN", "STATUS", "EXPIRES", "ITEMS"],
            (
                (listed.token, listed.status, listed.expires_at, _items(listed))
                for listed in reservations
            ),
        )


def _write(shown: Reservation, *, as_json: bool) -> None:
    if as_json:
        output.write_json(shown)
        return
    click.echo(f"Reservation : {shown.token}")
    click.echo(output.RULE)
    click.echo(f"Status  : {shown.status}{' (reacquired)' if shown.reacquired else ''}")
    click.echo(f"Expires : {output.instant(shown.expires_at)}")
    click.echo(f"Items   : {_items(shown)}")
    click.echo(output.RULE)


def _items(shown: Reservation) -> str:
    return ", ".join(f"{item.quantity} x {item.resource_id}" for item in shown.items)
