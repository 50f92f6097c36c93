"""TLS of deliveries: the certificate must match the name, although an address is dialled."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openreserve.domain.webhooks import Endpoint
from openreserve.webhooks import sender
from openreserve.webhooks.endpoints import new_secret
from openreserve.webhooks.sender import NotReached, Reply
from tests.conftest import forget
from tests.support.authority import Authority
from tests.support.receiver import Server, listening


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@dataclass(frozen=True)
class Shop:
    server: Server
    names: list[str | None]
    """The server names (SNI) that the clients sent."""

    async def post(self, host: str = "shop.example") -> Reply:
        url = f"https://{host}:{self.server.port}/events"
        return await sender.post(Endpoint("shop", url, (), (new_secret(),)), "an-id", "{}")


@pytest.fixture
def shop(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A server of shop.example. Every name resolves to it."""
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "1")
    forget()

    def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    names: list[str | None] = []
    shown = authority.vouch("shop.example", tmp_path).context
    shown.sni_callback = lambda _, name, __: names.append(name)
    with listening(tls=shown) as server:
        yield Shop(server, names)
    forget()


async def test_a_server_with_an_untrusted_certificate_receives_nothing(shop: Shop) -> None:
    with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
        await shop.post()

    assert (shop.server.connections, shop.server.heads) == (1, [])


async def test_sni_and_verification_use_the_name_and_not_the_address(
    shop: Shop, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_ssl_context", authority.trusted)

    assert (await shop.post()).status == 204

    assert shop.names == ["shop.example"]
    (head,) = shop.server.heads
    assert head.startswith(b"POST /events HTTP/1.1\r\n")
    assert f"Host: shop.example:{shop.server.port}\r\n".encode() in head


@pytest.mark.parametrize("host", ["other.example", "sub.shop.example", "127.0.0.1"])
async def test_a_server_with_a_certificate_for_another_name_receives_nothing(
    host: str, shop: Shop, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_ssl_context", authority.trusted)

    with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
        await shop.post(host)

    assert (shop.server.connections, shop.server.heads) == (1, [])


async def test_public_certificate_authorities_are_trusted_by_default() -> None:
    """The authority of the tests is not one of them. Without any, no server would be trusted."""
    trusted = sender._ssl_context()

    assert trusted.verify_mode == ssl.CERT_REQUIRED
    assert trusted.check_hostname
    assert len(trusted.get_ca_certs()) > 50
