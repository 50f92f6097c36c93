"""Concurrent callers: processes with one database connection each, as on Lambda."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

from tests.conftest import Engine

Task = TypeVar("Task")
Result = TypeVar("Result")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.handlers"])
_barrier: Barrier


class Crowd:
    """Runs tasks in all processes concurrently: `crowd(work, tasks)` takes one list per process."""

    def __init__(self, pool: "multiprocessing.pool.Pool", size: int) -> None:
        self._pool = pool
        self.size = size

    def __call__(
        self, work: Callable[[Task], Result], tasks: Sequence[Sequence[Task]]
    ) -> list[list[Result]]:
        """The results in the order of the tasks. All processes start at the same time."""
        assert len(tasks) == self.size
        return self._pool.starmap(_run, [(work, own) for own in tasks], chunksize=1)


@contextmanager
def crowd(engine: Engine, size: int) -> Iterator[Crowd]:
    variables = {"DATABASE_URL": engine.database_url, "REDIS_URL": engine.redis_url}
    barrier = _context.Barrier(size)
    with _context.Pool(size, initializer=_join, initargs=(variables, barrier)) as pool:
        yield Crowd(pool, size)
        pool.close()
        pool.join()


def _join(variables: dict[str, str], barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a process has one
    _barrier = barrier
    os.environ.update(variables, POWERTOOLS_SERVICE_NAME="openreserve")


def _run(work: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    _barrier.wait(60)  # also ensures that each process takes one list
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        return [work(task) for task in tasks]
