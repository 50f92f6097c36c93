"""`openreserve events`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from openreserve_client.cli import api, output, pipes
from openreserve_client.cli.pipes import ReaderGone
from openreserve_client.cli.seconds import Seconds
from openreserve_client.client import Client
from openreserve_client.errors import Fault, NotAnswered
from openreserve_client.models import Event, EventPage

PAGE_SIZE_MAX = 200


@click.group()
def events() -> None:
    """Show the events of stock and reservations."""


@events.command()
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(1, PAGE_SIZE_MAX),
    default=10,
    show_default=True,
    help="Number of newest events to start with.",
)
@click.option("--after", metavar="CURSOR", help="Start after this cursor instead.")
@click.option("-f", "--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option(
    "--interval",
    "interval_seconds",
    metavar="SECONDS",
    type=Seconds(0.1),
    default=1,
    show_default=True,
    help="Polling interval of --follow.",
)
@output.json_option
def tail(
    count: int, after: str | None, interval_seconds: float, *, follow: bool, as_json: bool
) -> None:
    """Print the newest events and, with --follow, new ones as they occur.

    At the end, prints the cursor to continue from (see --after) to standard error. --follow ends at
    Ctrl-C, or when the reader of a pipe exits.
    """
    with api.client() as client:
        page = client.newest_events(count) if after is None else client.list_events(after)
        cursor = page.cursor
        with _cursor_written(lambda: cursor):
            while page.events or follow:
                for event in page.events:
                    output.write_json(event) if as_json else click.echo(_line(event))
                cursor = page.cursor
                if after is None and not follow:
                    break
                if follow and len(page.events) < PAGE_SIZE_MAX:
                    pipes.wait(interval_seconds)
                page = _next_page(client, cursor, keep_trying=follow)


@contextmanager
def _cursor_written(cursor: Callable[[], str]) -> Iterator[None]:
    """Print the cursor at the end, unless the output has no reader any more."""
    has_reader = True
    try:
        yield
    except (BrokenPipeError, ReaderGone):
        has_reader = False
        raise
    finally:
        if has_reader:
            click.echo(f"cursor: {cursor()}", err=True)


def _next_page(client: Client, cursor: str, *, keep_trying: bool) -> EventPage:
    """The events after the cursor. `keep_trying`: an empty page if the API is unreachable."""
    try:
        return client.list_events(cursor)
    except (NotAnswered, Fault) as error:
        if not keep_trying:
            raise
        click.echo(f"openreserve: {api.line_of(error)}; retrying", err=True)
        return EventPage((), cursor)


def _line(event: Event) -> str:
    colour = "red" if event.type == "STOCK_DEPLETED" else "cyan"
    event_type = click.style(f"{event.type:<21}", fg=colour)
    cells = [output.instant(event.timestamp), event_type, f"{event.value:>8}", event.resource_id]
    return "  ".join([*cells, *map(str, event.tokens)])
