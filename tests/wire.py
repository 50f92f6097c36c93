"""A proxy in front of Postgres that writes down what the client sends, message by message.

Speaks just enough of the protocol (https://www.postgresql.org/docs/current/protocol.html) to do
that, and to lose an answer on demand.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Wire:
    """What went over the wire, and what to do with it."""

    url: str = ""
    startups: list[dict[str, str]] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    """Type and payload of each message that clients sent after the start-up."""
    lose_answer_to: bytes = b""
    """A piece of a statement. Its answer is not passed on, and `lost` is set instead."""
    lost: threading.Event = field(default_factory=threading.Event)

    @property
    def round_trips(self) -> int:
        """How often a client waited for the server: a Sync, or a simple query."""
        return sum(kind in "SQ" for kind, _ in self.messages)

    @property
    def statements(self) -> list[tuple[str, str]]:
        """Name of the prepared statement ("" for none) and text, in the order they were sent."""
        found = []
        for kind, payload in self.messages:
            if kind == "Q":
                found.append(("", payload.rstrip(b"\0").decode()))
            elif kind == "P":
                name, text, _ = payload.split(b"\0", 2)
                found.append((name.decode(), text.decode()))
        return found


@contextmanager
def tapped(database_url: str) -> Iterator[Wire]:
    """A tap on the way to the Postgres of this URL; `Wire.url` leads through it."""
    parts = urlsplit(database_url)
    target = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        wire = Wire(
            f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
            "?sslmode=disable&gssencmode=disable"
        )
        threading.Thread(target=_accept, args=(listening, target, wire), daemon=True).start()
        yield wire


def _accept(listening: socket.socket, target: str, wire: Wire) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(target)
            for pump in (_from_client, _from_server):
                threading.Thread(target=pump, args=(client, server, wire), daemon=True).start()


def _from_client(client: socket.socket, server: socket.socket, wire: Wire) -> None:
    with suppress(OSError, EOFError), server:
        length = _read(client, 4)
        startup = _read(client, int.from_bytes(length) - 4)
        words = [word.decode() for word in startup[4:].split(b"\0")]
        wire.startups.append(dict(zip(words[::2], words[1::2], strict=False)))
        server.sendall(length + startup)
        while True:
            head = _read(client, 5)
            payload = _read(client, int.from_bytes(head[1:]) - 4)
            wire.messages.append((chr(head[0]), payload))
            if wire.lose_answer_to and wire.lose_answer_to in payload:
                wire.lost.set()
            server.sendall(head + payload)


def _from_server(client: socket.socket, server: socket.socket, wire: Wire) -> None:
    with suppress(OSError), client:
        while data := server.recv(65_536):
            if not wire.lost.is_set():
                client.sendall(data)


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data
