"""A fake Postgres with scripted responses to statements: a row, an error or a closed connection.

Implements only the necessary parts of the protocol
(https://www.postgresql.org/docs/current/protocol.html).
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ENCRYPTION_REQUESTS = {80_877_103, 80_877_104}


@dataclass(frozen=True)
class Fails:
    """An ErrorResponse to a statement. FATAL also closes the connection, as in Postgres."""

    sqlstate: str
    severity: str = "ERROR"


@dataclass(frozen=True)
class Vanishes:
    """The connection is closed without a message."""


@dataclass(frozen=True)
class Row:
    """One row with one column `of_connection`: the number of the connection, starting at 1."""


Step = Fails | Vanishes | Row


@dataclass
class ScriptedPostgres:
    """URL, remaining steps and received statements. The last step is repeated."""

    url: str
    steps: list[Step]
    statements: list[int] = field(default_factory=list)
    """The number of the connection of each statement."""
    connections: int = 0


@contextmanager
def scripted_postgres(*steps: Step) -> Iterator[ScriptedPostgres]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        script = ScriptedPostgres(
            f"postgresql://openreserve_app@127.0.0.1:{port}/openreserve?sslmode=disable",
            list(steps),
        )
        threading.Thread(target=_accept, args=(listening, script), daemon=True).start()
        yield script
        listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, script: ScriptedPostgres) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            script.connections += 1
            threading.Thread(
                target=_serve, args=(client, script, script.connections), daemon=True
            ).start()


def _serve(client: socket.socket, script: ScriptedPostgres, number: int) -> None:
    with suppress(OSError, EOFError), client:
        _authenticate(client)
        while True:
            kind, length = struct.unpack("!ci", _read(client, 5))
            _read(client, length - 4)
            if kind == b"S":
                script.statements.append(number)
                step = script.steps.pop(0) if len(script.steps) > 1 else script.steps[0]
                client.sendall(_answer(step, number))
                if step == Vanishes() or (isinstance(step, Fails) and step.severity == "FATAL"):
                    return


def _authenticate(client: socket.socket) -> None:
    length, code = struct.unpack("!ii", _read(client, 8))
    while code in ENCRYPTION_REQUESTS:
        client.sendall(b"N")
        length, code = struct.unpack("!ii", _read(client, 8))
    _read(client, length - 8)
    encoding = _message(b"S", b"client_encoding\0UTF8\0")
    client.sendall(_message(b"R", struct.pack("!i", 0)) + encoding + _message(b"Z", b"I"))


def _answer(step: Step, number: int) -> bytes:
    match step:
        case Vanishes():
            return b""
        case Fails(sqlstate, severity):
            words = (f"S{severity}", f"V{severity}", f"C{sqlstate}", "Mas the script says")
            error = _message(b"E", b"".join(word.encode() + b"\0" for word in words) + b"\0")
            return error if severity == "FATAL" else error + _message(b"Z", b"I")
    column = b"of_connection\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0)
    value = str(number).encode()
    return b"".join(
        (
            _message(b"1", b""),
            _message(b"2", b""),
            _message(b"T", struct.pack("!h", 1) + column),
            _message(b"D", struct.pack("!hi", 1, len(value)) + value),
            _message(b"C", b"SELECT 1\0"),
            _message(b"Z", b"I"),
        )
    )


def _message(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("!i", len(payload) + 4) + payload


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data
