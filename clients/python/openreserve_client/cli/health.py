"""`openreserve health`."""

import click

from openreserve_client.cli import api, output


@click.command()
@output.json_option
def health(*, as_json: bool) -> int:
    """Show the health of the API, Postgres and Redis.

    Exit code: 0 if the status is ok, or degraded (Redis is unavailable: slower, but correct), 1 if
    it is unavailable (Postgres is), 2 if the API is unreachable.
    """
    with api.client() as client:
        status = client.health()
    if as_json:
        output.write_json(status)
    else:
        colour = {"ok": "green", "degraded": "yellow"}.get(status.status, "red")
        click.echo(f"API      : {click.style(status.status, fg=colour)}")
        click.echo(f"Postgres : {status.postgres}")
        click.echo(f"Redis    : {status.redis}")
    return 1 if status.status == "unavailable" else 0
