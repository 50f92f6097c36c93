"""Somebody's server that webhooks are delivered to: real HTTP, and answers as it is told to."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Delivery:
    """One call that it got."""

    path: str
    headers: Mapping[str, str]
    content: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The event, if the library's own verifier accepts it."""
        return Webhook(secret).verify(self.content, dict(self.headers))


Answer = Callable[[Delivery], int]
"""The status for a delivery; it may take its time."""


@dataclass
class Shop:
    """The server, and what it got."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    """By path; without one, 204."""
    deliveries: list[Delivery] = field(default_factory=list)

    def ids(self, path: str) -> Counter[str]:
        return Counter(got.id for got in list(self.deliveries) if got.path == path)


@contextmanager
def open_shop() -> Iterator[Shop]:
    """A server on a port of its own."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            delivery = Delivery(self.path, headers, content, time.time())
            answer = shop.answers.get(self.path)
            status = 204 if answer is None else answer(delivery)
            shop.deliveries.append(delivery)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Who gave up waiting has hung up."""

    server = Server(("127.0.0.1", 0), Handler)
    shop.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield shop
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
