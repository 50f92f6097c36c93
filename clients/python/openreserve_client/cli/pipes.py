"""Detection of a pipe whose reader has exited, as in `openreserve stock list | head -1`."""

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ReaderGone(Exception):
    """Standard output is a pipe whose reader has exited."""


@contextmanager
def reader_watched() -> Iterator[None]:
    """Turn BrokenPipeError into ReaderGone. The client turns those of connections into its own."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


def wait(seconds: float) -> None:
    """Sleep, but stop early if the reader of standard output exits.

    Raises:
        ReaderGone: the reader has exited.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # no events but errors and hang-ups
    if poll.poll(seconds * 1_000):
        raise ReaderGone
