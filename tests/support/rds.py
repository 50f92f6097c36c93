"""A fake RDS Proxy in front of Postgres: requires TLS and checks passwords.

Implements only the necessary parts of the protocol
(https://www.postgresql.org/docs/current/protocol.html). Verifies IAM tokens as AWS does: it
computes the signature again, with the SDK.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.tls_relay import pass_on

PLAIN = b"TLS is required"
REFUSED = b"password authentication failed"
TLS_REQUEST, GSS_REQUEST = 80877103, 80877104


@dataclass
class Rds:
    """The connection attempts: passwords and startup parameters."""

    port: int
    passwords: list[str] = field(default_factory=list)
    startups: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def rds(
    database_url: str, tls: ssl.SSLContext, lets_in: Callable[[str, str], bool]
) -> Iterator[Rds]:
    """Listen on 127.0.0.1, with any host name in the certificate.

    `lets_in` decides whether user and password are accepted.
    """
    socket_path = f"{parse_qs(urlsplit(database_url).query)['host'][0]}/.s.PGSQL.5432"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = Rds(listening.getsockname()[1])

        def serve(client: socket.socket) -> None:
            with suppress(OSError, EOFError), client:
                _serve(client, socket_path, tls, lets_in, seen)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield seen
        listening.shutdown(socket.SHUT_RDWR)


def is_token(token: str, host: str, user: str, signer: Credentials, now: float) -> bool:
    """Whether the token has a valid signature for this user and host, and has not expired."""
    unsigned, _, signature = token.partition("&X-Amz-Signature=")
    query = {name: value for name, (value,) in parse_qs(urlsplit(f"//{unsigned}").query).items()}
    if not unsigned.startswith(f"{host}/?") or query["DBUser"] != user:
        return False
    region = query["X-Amz-Credential"].split("/")[2]
    check = SigV4QueryAuth(signer, "rds-db", region, int(query["X-Amz-Expires"]))
    request = AWSRequest("GET", f"https://{unsigned}")
    request.context["timestamp"] = query["X-Amz-Date"]
    expected = check.signature(
        check.string_to_sign(request, check.canonical_request(request)), request
    )
    signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signature == expected and 0 <= now - signed.timestamp() <= int(query["X-Amz-Expires"])


def _serve(
    plain: socket.socket,
    socket_path: str,
    tls: ssl.SSLContext,
    lets_in: Callable[[str, str], bool],
    seen: Rds,
) -> None:
    length, code = struct.unpack("!ii", _read(plain, 8))
    while code == GSS_REQUEST:
        plain.sendall(b"N")
        length, code = struct.unpack("!ii", _read(plain, 8))
    if code != TLS_REQUEST:
        plain.sendall(_refusal(PLAIN))
        return
    plain.sendall(b"S")
    with tls.wrap_socket(plain, server_side=True) as client:
        head = _read(client, 4)
        (length,) = struct.unpack("!i", head)
        startup = _read(client, length - 4)
        words = [word.decode() for word in startup[4:].split(b"\0")]
        parameters = dict(zip(words[::2], words[1::2], strict=False))
        seen.startups.append(parameters)
        client.sendall(b"R" + struct.pack("!ii", 8, 3))  # AuthenticationCleartextPassword
        kind, length = struct.unpack("!ci", _read(client, 5))
        assert kind == b"p"
        password = _read(client, length - 4).rstrip(b"\0").decode()
        seen.passwords.append(password)
        if not lets_in(parameters["user"], password):
            client.sendall(_refusal(REFUSED))
            return
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(socket_path)
            server.sendall(head + startup)
            pass_on(client, server)


def _refusal(reason: bytes) -> bytes:
    fields = b"SFATAL\0VFATAL\0C28P01\0M" + reason + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data
