"""`openreserve events`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from openreserve.cli import api, output, pipes
from openreserve.cli.pipes import ReaderGone
from openreserve.cli.seconds import Seconds
from openreserve.client import Client, Event, EventPage, NotAnswered
from openreserve.domain.errors import Fault

MOST_AT_ONCE = 200


@click.group()
def events() -> None:
    """Watch what happens to the stock."""


@events.command()
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(1, MOST_AT_ONCE),
    default=10,
    show_default=True,
    help="Begin with the last so many.",
)
@click.option("--after", metavar="CURSOR", help="Begin behind this cursor instead.")
@click.option("-f", "--follow", is_flag=True, help="Stay, and write what comes, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_seconds",
    metavar="SECONDS",
    type=Seconds(0.1),
    default=1,
    show_default=True,
    help="How often to look, with --follow.",
)
@output.json_option
def tail(
    count: int, after: str | None, interval_seconds: float, *, follow: bool, as_json: bool
) -> None:
    """Write the last events and, with --follow, those that come.

    The cursor to go on from is written to standard error at the end. With --follow, Ctrl-C ends it,
    or the end of what reads it.
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
                if follow and len(page.events) < MOST_AT_ONCE:
                    pipes.wait(interval_seconds)
                page = _next(client, cursor, patiently=follow)


@contextmanager
def _cursor_written(cursor: Callable[[], str]) -> Iterator[None]:
    """Write at the end where to go on, unless nothing reads what is written."""
    has_reader = True
    try:
        yield
    except (BrokenPipeError, ReaderGone):
        has_reader = False
        raise
    finally:
        if has_reader:
            click.echo(f"cursor: {cursor()}", err=True)


def _next(client: Client, cursor: str, *, patiently: bool) -> EventPage:
    """The events behind the cursor. Patiently: none for now, if the API is away."""
    try:
        return client.list_events(cursor)
    except (NotAnswered, Fault) as error:
        if not patiently:
            raise
        click.echo(f"openreserve: {api.line_of(error)}; trying again", err=True)
        return EventPage((), cursor)


def _line(event: Event) -> str:
    kind = click.style(f"{event.type:<21}", fg="red" if event.type == "STOCK_DEPLETED" else "cyan")
    cells = [output.instant(event.timestamp), kind, f"{event.value:>8}", event.resource_id]
    return "  ".join([*cells, *map(str, event.tokens)])
