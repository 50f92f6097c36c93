"""`openreserve health`."""

import click

from openreserve.cli import api, output


@click.command()
@output.json_option
def health(*, as_json: bool) -> int:
    """Say whether the API, Postgres and Redis answer.

    Exits with 0 if all is well or only slower (Redis is away), 1 if Postgres does not answer, and 2
    if the API does not.
    """
    with api.client() as client:
        told = client.health()
    if as_json:
        output.write_json(told)
    else:
        colour = {"ok": "green", "degraded": "yellow"}.get(told.status, "red")
        click.echo(f"API      : {click.style(told.status, fg=colour)}")
        click.echo(f"Postgres : {told.postgres}")
        click.echo(f"Redis    : {told.redis}")
    return 1 if told.status == "unavailable" else 0
