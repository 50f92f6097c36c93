"""Who webhooks go to: real servers of this machine, of good manners and of none."""

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
        """The event, if the library that receivers use accepts its signature."""
        return Webhook(secret).verify(self.content, dict(self.headers))

    def is_signed_with(self, secret: str) -> bool:
        try:
            self.verified(secret)
        except WebhookVerificationError:
            return False
        return True


@dataclass(frozen=True)
class CommandError:
    """What to answer; with status 0: nothing, as long as the server is there."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = CommandError | Callable[[Received], CommandError]
"""What is always told, or what is decided for each; that may take its time."""


@dataclass
class Receiver:
    """It keeps what it got and answers as it is told. Each path is a receiver of its own."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    """By path; others are told that all is well."""
    over: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str) -> list[Received]:
        return [each for each in list(self.received) if each.path == path]

    def ids(self, path: str) -> Counter[str]:
        return Counter(each.id for each in self.at(path))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
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
            """The tests look at what it got instead."""

    class Crowded(ThreadingHTTPServer):
        request_queue_size = 128  # a batch comes all at once

        def handle_error(self, *_: Any) -> None:
            """Who gave up waiting has hung up."""

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
    """What came to a socket that listens."""

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
    """A server that talks so to each that connects, one after the other."""
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
