"""The SSRF guard: deliveries only connect to public addresses."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain
from typing import Any

import httpcore
import pytest

from openreserve.domain.webhooks import Endpoint
from openreserve.webhooks import sender
from openreserve.webhooks.endpoints import new_secret
from openreserve.webhooks.sender import Forbidden, NotReached, Reply
from tests.conftest import forget
from tests.support.receiver import listening, receiving

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.1"


@dataclass
class Network:
    """A fake network that records the connections and refuses them."""

    reached: list[tuple[str, int]] = field(default_factory=list)

    async def connect_tcp(self, host: str, port: int, *_: Any) -> httpcore.AsyncNetworkStream:
        self.reached.append((host, port))
        raise httpcore.ConnectError("it is as far as this test goes")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(httpcore, "AnyIOBackend", lambda: network)
    return network


@pytest.fixture(autouse=True)
def _timeout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WEBHOOK_TIMEOUT_SECONDS", "1")
    forget()
    yield
    forget()


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow deliveries to servers of this machine."""
    monkeypatch.setenv("WEBHOOK_DEVELOPMENT", "1")
    forget()


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, list[list[str]]], list[str]]:
    """The successive responses of a fake name server, and its queries."""
    answers: dict[str, list[list[str]]] = {}
    queries: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        queries.append(host)
        addresses = answers[host].pop(0)
        return [
            (
                socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port),
            )
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers, queries


async def post(url: str) -> Reply:
    return await sender.post(Endpoint("shop", url, (), (new_secret(),)), "an-id", "{}")


THIS_MACHINE = {
    "plain": ["127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "localhost", "LOCALHOST"],
    "short": ["127.1", "127.0.1", "0"],
    "decimal": ["2130706433"],
    "octal": ["0177.0.0.1", "017700000001"],
    "hexadecimal": ["0x7f000001", "0x7f.1", "0x7f.0x0.0x0.0x1"],
    "unspecified": ["0.0.0.0", "[::]"],  # noqa: S104 - nothing is bound to it
    "mapped": ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"],
}


@pytest.mark.parametrize("host", [*chain.from_iterable(THIS_MACHINE.values())])
async def test_no_spelling_of_a_loopback_address_is_connected_to(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as server, listening(host="::1") as server_6:
        monkeypatch.setenv("WEBHOOK_PORTS", f"443,{server.port},{server_6.port}")
        forget()

        for port in (server.port, server_6.port):
            with pytest.raises(Forbidden, match="not public"):
                await post(f"https://{host}:{port}/")

    assert (server.connections, server_6.connections) == (0, 0)


NOT_PUBLIC = {
    "private": ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[fc00::1]"],
    "decimal, octal and hexadecimal": ["3232235777", "012.0.0.1", "0xa.1"],
    "link-local": ["169.254.1.1", "[fe80::1]"],
    "metadata": ["169.254.169.254", "2852039166", "0xa9fea9fe", "[fd00:ec2::254]"],
    "credentials": ["169.254.170.2", "127.0.0.1"],
    "mapped": ["[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]"],
    "NAT64": ["[64:ff9b::10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a00:1]"],
    "6to4 and Teredo": ["[2002:a00:1::]", "[2001::1]"],
    "multicast and broadcast": ["224.0.0.1", "[ff02::1]", "255.255.255.255"],
    "set aside": ["192.0.0.8", "192.0.2.1", "[2001:db8::1]"],
}


@pytest.mark.parametrize("host", [*chain.from_iterable(NOT_PUBLIC.values())])
async def test_no_non_public_address_is_connected_to(host: str, network: Network) -> None:
    with pytest.raises(Forbidden, match="not public"):
        await post(f"https://{host}/")

    assert network.reached == []


OTHER_URLS = {
    "plain": ["http://93.184.215.14/", "ftp://93.184.215.14/", "unix:///run/docker.sock"],
    "another port": ["https://93.184.215.14:80/", "https://93.184.215.14:6379/"],
    "a user": ["https://me@93.184.215.14/", "https://me:secret@93.184.215.14/"],
    "none": ["", "https:///", "https://93.184.215.14:x/"],
}


@pytest.mark.parametrize("url", [*chain.from_iterable(OTHER_URLS.values())])
async def test_only_https_urls_on_port_443_are_connected_to(url: str, network: Network) -> None:
    with pytest.raises(Forbidden):
        await post(url)

    assert network.reached == []


@pytest.mark.parametrize("url", [f"https://{PUBLIC}/", "https://[2606:4700::1111]:443/"])
async def test_public_addresses_are_connected_to(url: str, network: Network) -> None:
    with pytest.raises(NotReached, match="as far as"):
        await post(url)

    assert len(network.reached) == 1


@pytest.mark.parametrize(
    "addresses",
    [[PUBLIC, PRIVATE], [PRIVATE, PUBLIC], [PUBLIC, "2606:4700::1111", "::1"], [PRIVATE]],
)
async def test_a_name_with_one_private_address_is_not_connected_to_at_all(
    addresses: list[str], network: Network, lookups: tuple[dict[str, list[list[str]]], list[str]]
) -> None:
    lookups[0]["shop.example"] = [addresses]

    with pytest.raises(Forbidden, match="not public"):
        await post("https://shop.example/")

    assert network.reached == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_used(
    network: Network, lookups: tuple[dict[str, list[list[str]]], list[str]]
) -> None:
    answers, queries = lookups
    answers["shop.example"] = [["2606:4700::1111", PUBLIC], [PRIVATE], [PRIVATE]]

    with pytest.raises(NotReached, match="as far as"):
        await post("https://shop.example/")

    assert queries == ["shop.example"]
    assert network.reached == [(PUBLIC, 443)]


@pytest.mark.usefixtures("development")
async def test_a_checked_address_is_not_resolved_again_on_the_real_network(
    lookups: tuple[dict[str, list[list[str]]], list[str]],
) -> None:
    answers, queries = lookups
    with listening() as server:
        answers["shop.example"] = [["127.0.0.1"]]

        assert (await post(f"http://shop.example:{server.port}/")).status == 204

    assert queries == ["shop.example"]
    assert f"Host: shop.example:{server.port}\r\n".encode() in server.heads[0]


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..example", "nobody.invalid"])
async def test_an_unresolvable_name_is_an_ordinary_failure(name: str, network: Network) -> None:
    with pytest.raises(NotReached):
        await post(f"https://{name}/")

    assert network.reached == []


@pytest.mark.usefixtures("development")
async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, receiving() as receiver:
        for variable in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(variable.upper(), f"http://127.0.0.1:{proxy.port}")

        assert (await post(f"{receiver.url}/events")).status == 204

    assert (proxy.connections, len(receiver.received)) == (0, 1)
