"""A TLS proxy in front of a server without TLS."""

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 65_536


@contextmanager
def relayed(port: int, shown: ssl.SSLContext) -> Iterator[int]:
    """Yields a TLS port that forwards to this port. `shown`: server certificate and key."""

    def serve(plain: socket.socket) -> None:
        with (
            suppress(OSError),
            plain,
            shown.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            pass_on(client, server)

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def pass_on(client: ssl.SSLSocket, server: socket.socket) -> None:
    """Forward data in both directions until one side closes."""
    while True:
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(CHUNK_BYTES)
            if not data:
                return
            (server if source is client else client).sendall(data)
