"""Webhook receivers: real servers on 127.0.0.1, correct and misbehaving ones."""

import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    content: bytes
    came_at: float
    """In seconds since the epoch."""

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The event, after verification of its signature with the library standardwebhooks."""
        return Webhook(secret).verify(self.content, dict(self.headers))

    def is_signed_with(self, secret: str) -> bool:
        try:
            self.verified(secret)
        except WebhookVerificationError:
            return False
        return True


@dataclass(frozen=True)
class CommandError:
    """The response to send; with status 0: none until the server stops."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = CommandError | Callable[[Received], CommandError]
"""A fixed response, or a function that returns the response to a request; it may block."""


@dataclass
class Receiver:
    """Records requests and sends the configured responses. Each path is a separate endpoint."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    """By path; all other paths answer 204."""
    over: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str) -> list[Received]:
        return [each for each in list(self.received) if each.path == path]

    def ids(self, path: str) -> Counter[str]:
        return Counter(each.id for each in self.at(path))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(self.path, headers, content, time.time())
            receiver.received.append(received)
            answer = receiver.answers.get(self.path, CommandError())
            if callable(answer):
                answer = answer(received)
            if not answer.status:
                receiver.over.wait()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing: the tests read `Receiver.received`."""

    class Crowded(ThreadingHTTPServer):
        request_queue_size = 128  # a batch opens its connections concurrently

        def handle_error(self, *_: Any) -> None:
            """Ignore clients that disconnected after their timeout."""

    with Crowded(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.over.set()
            server.shutdown()
            thread.join()


@dataclass
class Server:
    """What a listening socket received."""

    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    sent_bytes: int = 0


Talk = Callable[[socket.socket, Server], None]


def answer_well(connection: socket.socket, server: Server) -> None:
    with connection.makefile("rb") as request:
        head = b"".join(iter(request.readline, b"\r\n"))
        (length,) = re.findall(rb"(?i)\r\ncontent-length: (\d+)", head)
        request.read(int(length))
    server.heads.append(head)
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def hold_the_line(connection: socket.socket, _: Server) -> None:
    while connection.recv(65_536):
        pass


@contextmanager
def listening(
    talk: Talk = answer_well, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server that calls `talk` for each connection, one after the other."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        server = Server(port=listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # closed: the test is over
                server.connections += 1
                with connection, suppress(OSError):
                    if tls is None:
                        talk(connection, server)
                    else:
                        with tls.wrap_socket(connection, server_side=True) as secured:
                            talk(secured, server)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
