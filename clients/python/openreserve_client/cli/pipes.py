"""A reader of the output who has gone, as in `openreserve stock list | head -1`."""

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ReaderGone(Exception):
    """Nothing reads what is written."""


@contextmanager
def reader_watched() -> Iterator[None]:
    """Raise ReaderGone where a pipe is broken. Connections to servers raise errors of their own."""
    try:
        yield
    except BrokenPipeError as broken:
        raise ReaderGone from broken


def wait(seconds: float) -> None:
    """Wait, but no longer than standard output has a reader.

    Raises:
        ReaderGone: it has none.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # for nothing but errors and hang-ups
    if poll.poll(seconds * 1_000):
        raise ReaderGone
