"""A proxy in front of Postgres that records each message of the clients.

Parses only the necessary parts of the protocol
(https://www.postgresql.org/docs/current/protocol.html). Reports what RDS Proxy refuses or pins a
connection for; drops a response or cuts connections on demand.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

from tests.support.rds_proxy import fault_of_startup, fault_of_statement

CANCEL_REQUEST = 80_877_102


@dataclass
class Wire:
    """The recorded traffic, and the faults to inject."""

    url: str = ""
    keeps: bool = True
    """Whether messages are recorded; those of the whole test suite would need too much memory."""
    startups: list[dict[str, str]] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    """Type and payload of each message of the clients after the startup message."""
    statements_seen: int = 0
    faults: list[str] = field(default_factory=list)
    """What RDS Proxy refuses, or pins a connection for."""
    lose_answer_to: bytes = b""
    """A part of a statement. Its response is dropped, and `lost` is set instead."""
    lost: threading.Event = field(default_factory=threading.Event)
    clients: set[socket.socket] = field(default_factory=set)

    @property
    def round_trips(self) -> int:
        """The number of Sync messages and simple queries, each of which waits for the server."""
        return sum(kind in "SQ" for kind, _ in self.messages)

    @property
    def statements(self) -> list[tuple[str, str]]:
        """Name of the prepared statement ("" for none) and text, in the order of sending."""
        return [_statement(kind, payload) for kind, payload in self.messages if kind in "QP"]

    def cut(self) -> None:
        """Close all connections, as in a failover."""
        for client in list(self.clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def told_faults(self) -> list[str]:
        """The faults since the last call."""
        faults, self.faults = self.faults, []
        return faults

    def begin(self, startup: dict[str, str]) -> None:
        """Record a startup message."""
        self.startups.append(startup)
        self._blame(fault_of_startup(startup))

    def take(self, kind: str, payload: bytes) -> None:
        """Record a message of a client."""
        if self.keeps:
            self.messages.append((kind, payload))
        if kind in "QP":
            self.statements_seen += 1
            self._blame(fault_of_statement(*_statement(kind, payload)))
        if self.lose_answer_to and self.lose_answer_to in payload:
            self.lost.set()

    def _blame(self, fault: str) -> None:
        if fault:
            self.faults.append(fault)


@contextmanager
def tapped(database_url: str, *, keeps: bool = True) -> Iterator[Wire]:
    """A proxy in front of the Postgres of this URL; clients connect to `Wire.url`."""
    parts = urlsplit(database_url)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port = listening.getsockname()[1]
        wire = Wire(
            f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
            "?sslmode=disable&gssencmode=disable",
            keeps,
        )
        threading.Thread(target=_accept, args=(listening, database_url, wire), daemon=True).start()
        yield wire


def _accept(listening: socket.socket, database_url: str, wire: Wire) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                server = _connected(database_url)
            except OSError:
                client.close()
                continue
            for pump in (_from_client, _from_server):
                threading.Thread(target=pump, args=(client, server, wire), daemon=True).start()


def _connected(database_url: str) -> socket.socket:
    parts = urlsplit(database_url)
    if parts.hostname and parts.port:
        server = socket.create_connection((parts.hostname, parts.port))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432")
    return server


def _from_client(client: socket.socket, server: socket.socket, wire: Wire) -> None:
    with suppress(OSError, EOFError), _ended(server), client.makefile("rb") as sent:
        wire.clients.add(client)
        try:
            server.sendall(_startup(sent, wire))
            unsent = b""
            while True:
                head = _read(sent, 5)
                payload = _read(sent, int.from_bytes(head[1:]) - 4)
                wire.take(chr(head[0]), payload)
                unsent += head + payload
                if chr(head[0]) not in "PBDE":  # followed by a Sync: sent in one packet
                    server.sendall(unsent)
                    unsent = b""
        finally:
            wire.clients.discard(client)


def _startup(sent: BinaryIO, wire: Wire) -> bytes:
    length = _read(sent, 4)
    startup = _read(sent, int.from_bytes(length) - 4)
    if int.from_bytes(startup[:4]) == CANCEL_REQUEST:
        wire.faults.append("a CancelRequest, which RDS Proxy does not support")
    else:
        words = [word.decode() for word in startup[4:-2].split(b"\0")]
        wire.begin(dict(zip(words[::2], words[1::2], strict=True)))
    return length + startup


def _from_server(client: socket.socket, server: socket.socket, wire: Wire) -> None:
    with suppress(OSError), _ended(client):
        while data := server.recv(65_536):
            if not wire.lost.is_set():
                client.sendall(data)


@contextmanager
def _ended(connection: socket.socket) -> Iterator[None]:
    """Shut the connection down at the end, which also wakes threads that wait for its data."""
    with connection:
        try:
            yield
        finally:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _statement(kind: str, payload: bytes) -> tuple[str, str]:
    if kind == "Q":
        return "", payload.rstrip(b"\0").decode()
    name, text, _ = payload.split(b"\0", 2)
    return name.decode(), text.decode()


def _read(sent: BinaryIO, length: int) -> bytes:
    data = sent.read(length)
    if len(data) < length:
        raise EOFError
    return data
