"""Concurrent upload of import lines in batches, and how far it has come.

All lines of one resource go to the same worker, which sends one batch at a time: so the last line
wins, whatever the number of workers. Memory is bounded by the workers' queues.
"""

import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from openreserve_client.cli.csv_lines import Line
from openreserve_client.client import Client
from openreserve_client.models import RowResult

QUEUED_BATCHES_MAX = 2
"""Per worker: enough to keep it busy while the file is read."""
BATCH_BYTES_MAX = 200_000
"""Below the API's limit for a body. Long ids make smaller batches."""
_POLL_SECONDS = 0.1

Record = Callable[[Sequence[Line], Sequence[RowResult]], None]


class ImportWorkers:
    """Threads that send batches. They call `record` with the results of each batch."""

    def __init__(self, client: Client, record: Record, *, count: int, batch_rows: int) -> None:
        self._stopped = threading.Event()
        self._workers = [_Worker(client, record, self._stopped, batch_rows) for _ in range(count)]

    def send(self, lines: Iterable[Line]) -> None:
        """Send all lines. Returns when all are processed, or when a worker has failed."""
        for line in lines:
            if self._stopped.is_set():
                break
            self._workers[crc32(line.resource_id.encode()) % len(self._workers)].add(line)
        for worker in self._workers:
            worker.flush()
            worker.finish()
        for worker in self._workers:
            worker.thread.join()

    def stop(self, seconds: float) -> None:
        """Send no further batches, and wait for those in progress."""
        self._stopped.set()
        for worker in self._workers:
            worker.thread.join(seconds)

    @property
    def failure(self) -> Exception | None:
        """The exception that stopped a worker, if any."""
        return next((worker.failure for worker in self._workers if worker.failure), None)

    def first_open(self, lines_read: int) -> int:
        """The number of the first line that may not be done.

        `lines_read`: the last of these may not have been passed to a worker yet.
        """
        open_lines = [worker.first_open for worker in self._workers if worker.first_open]
        return min(open_lines, default=lines_read)


class _Worker:
    """A thread that sends one batch after the other."""

    def __init__(
        self, client: Client, record: Record, stopped: threading.Event, batch_rows: int
    ) -> None:
        self.failure: Exception | None = None
        self._client, self._record, self._stopped = client, record, stopped
        self._batch_rows = batch_rows
        self._batch: list[Line] = []
        self._batch_bytes = 0
        self._open: deque[int] = deque()
        """The first line of each batch that is not done."""
        self._queue: queue.Queue[list[Line] | None] = queue.Queue(QUEUED_BATCHES_MAX)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, line: Line) -> None:
        """Add a line to the next batch. Blocks while the queue is full."""
        size = len(json.dumps(line.resource_id)) + 64
        if len(self._batch) == self._batch_rows or self._batch_bytes + size > BATCH_BYTES_MAX:
            self.flush()
        if not self._batch:
            self._open.append(line.number)
        self._batch.append(line)
        self._batch_bytes += size

    def flush(self) -> None:
        """Queue the batch."""
        if self._batch:
            self._put(self._batch)
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> None:
        """End the thread after the queued batches."""
        self._put(None)

    @property
    def first_open(self) -> int | None:
        """The number of its first line that may not be done; None if all are."""
        try:
            return self._open[0]
        except IndexError:
            return None

    def _put(self, batch: list[Line] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(batch, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                results = self._client.set_stock_of_many(
                    [(line.resource_id, line.total_stock) for line in batch]
                )
                self._record(batch, results)
                self._open.popleft()
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.failure = error
            self._stopped.set()
        finally:
            self._client.close()

    def _next(self) -> list[Line] | None:
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        return None
