"""Sends the lines of an import in batches over several lanes, and knows how far it has come.

The rows of one resource always take the same lane, one batch at a time: so the last line about it
counts, however many lanes there are. Memory is bounded by what the lanes may have before them.
"""

import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from openreserve.cli.csv_lines import Line
from openreserve.client import Client, Row

WAITING_BATCHES = 2
"""Batches that wait in a lane: enough to keep it busy while the file is read."""
BATCH_BYTES_MAX = 200_000
"""The API takes a little more. Ids that are long make smaller batches."""
_LOOK_SECONDS = 0.1

Tell = Callable[[Sequence[Line], Sequence[Row]], None]


class ImportWorkers:
    """Lanes to the API. `tell` hears of each batch that was answered, from any of them."""

    def __init__(self, client: Client, emit: Tell, *, count: int, batch_rows: int) -> None:
        self._stopped = threading.Event()
        self._lanes = [_Lane(client, emit, self._stopped, batch_rows) for _ in range(count)]

    def send(self, lines: Iterable[Line]) -> None:
        """Send all lines, and return when they are answered, or when a lane has failed."""
        for line in lines:
            if self._stopped.is_set():
                break
            self._lanes[crc32(line.resource_id.encode()) % len(self._lanes)].add(line)
        for lane in self._lanes:
            lane.flush()
            lane.finish()
        for lane in self._lanes:
            lane.thread.join()

    def stop(self, seconds: float) -> None:
        """Send nothing more, and wait so long for what is under way."""
        self._stopped.set()
        for lane in self._lanes:
            lane.thread.join(seconds)

    @property
    def failure(self) -> Exception | None:
        """What stopped a lane; None: nothing did."""
        return next((lane.failure for lane in self._lanes if lane.failure is not None), None)

    def first_open(self, read: int) -> int:
        """The first line that may not be done, when so many have been read.

        The last one that was read may not have come to a lane.
        """
        return min([lane.first_open for lane in self._lanes if lane.first_open], default=read)


class _Lane:
    """One thread that sends one batch after the other."""

    def __init__(
        self, client: Client, emit: Tell, stopped: threading.Event, batch_rows: int
    ) -> None:
        self.failure: Exception | None = None
        self._client, self._tell, self._stopped = client, emit, stopped
        self._batch_rows = batch_rows
        self._batch: list[Line] = []
        self._batch_bytes = 0
        self._open: deque[int] = deque()
        self._waiting: queue.Queue[list[Line] | None] = queue.Queue(WAITING_BATCHES)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, line: Line) -> None:
        """Put a line into the next batch, and wait while too many batches wait."""
        size = len(json.dumps(line.resource_id)) + 64
        if len(self._batch) == self._batch_rows or self._batch_bytes + size > BATCH_BYTES_MAX:
            self.flush()
        if not self._batch:
            self._open.append(line.number)
        self._batch.append(line)
        self._batch_bytes += size

    def flush(self) -> None:
        """Let what has come together be sent."""
        if self._batch:
            self._put(self._batch)
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> None:
        """Let the thread end when all is sent."""
        self._put(None)

    @property
    def first_open(self) -> int | None:
        """The first of its lines that may not be done; None: all are."""
        try:
            return self._open[0]
        except IndexError:
            return None

    def _put(self, batch: list[Line] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._waiting.put(batch, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                rows = self._client.set_stock_of_many(
                    [(line.resource_id, line.total_stock) for line in batch]
                )
                self._tell(batch, rows)
                self._open.popleft()
        except Exception as error:  # noqa: BLE001 - whoever waits for this lane has to know
            self.failure = error
            self._stopped.set()
        finally:
            self._client.close()

    def _next(self) -> list[Line] | None:
        while not self._stopped.is_set():
            try:
                return self._waiting.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
        return None
