"""Redis as on ElastiCache: a cluster, with verified TLS and IAM tokens."""

import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from openreserve.cache import connection as cache_connection
from openreserve.cache import hints
from openreserve.cache.cluster import Command, Nodes, slot
from openreserve.runtime import iam_auth, settings
from tests.conftest import Engine, beside, forget
from tests.support.authority import Authority
from tests.support.handlers import call, commit, hold, release, reserve, set_stock
from tests.support.redis_servers import cluster, port_of, redis_with_tls

HOST = "openreserve-dev-c1.serverless.euc1.cache.amazonaws.com"
USER = "openreserve-app"
ONE_NODE = ((0, 16_383),)
TWO_NODES = ((0, 8_191), (8_192, 16_383))


@pytest.fixture(scope="module", params=[ONE_NODE, TWO_NODES], ids=["one node", "two nodes"])
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[redis.Redis]]:
    with cluster(tmp_path_factory.mktemp("cluster"), *request.param) as started:
        yield started


@pytest.fixture
def sent(
    nodes: list[redis.Redis], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Command]]:
    """The engine with a Redis cluster. Yields all commands sent to it."""
    assert engine
    commands: list[Command] = []
    exchange = Nodes.exchange

    def recorded(self: Nodes, *sent_commands: Command, repeatable: bool = True) -> list[Any]:
        commands.extend(sent_commands)
        return exchange(self, *sent_commands, repeatable=repeatable)

    monkeypatch.setattr(Nodes, "exchange", recorded)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port_of(nodes[0])}")
    monkeypatch.setenv("REDIS_TIMEOUT_MS", "5000")
    monkeypatch.setenv("REDIS_CONNECT_TIMEOUT_MS", "5000")
    forget()
    for node in nodes:
        node.flushall()
    yield commands
    forget()


def use_every_command(name: str) -> None:
    """All Redis commands of the engine, with the expected responses."""
    set_stock(name, 3)
    first = reserve((name, 1), key=name)
    assert reserve((name, 1), key=name).text == first.text
    commit(first.json["token"])
    release(hold((name, 2)))
    token = hold((name, 2), ttl_seconds=1)
    assert reserve((name, 1)).code == reserve((name, 1)).code == "out_of_stock"
    assert hints.wait_for_news(1) is True
    due: list[Any] = []
    while not due:
        due_now = hints.wait_for_due(5, 10)
        assert due_now is not None
        due = due_now
    assert [str(one) for one in due] == [token]
    hints.forget_holds(*due)
    assert call("health").json["redis"] == "ok"


def test_every_command_goes_to_one_slot_of_a_cluster(
    sent: list[Command], nodes: list[redis.Redis], name: str
) -> None:
    use_every_command(name)

    assert cache_connection._state.get().pause.length_ms == 0, "no refusal, by any node"
    for command in sent:
        keys = nodes[0].execute_command("COMMAND GETKEYS", *command) if len(command) > 1 else []
        assert {key_slot(key.encode()) for key in keys} <= {slot(command)}, command
    source = Path(hints.__file__).read_text() + Path(cache_connection.__file__).read_text()
    known = set(re.findall(r'\(\s*"([A-Z]{3,})"', source))
    assert {str(command[0]) for command in sent} == known


def test_the_slots_of_a_cluster_are_looked_up_once(
    sent: list[Command], nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sent == []
    batch_sizes: list[int] = []
    ask = Nodes._send

    def counted(self: Nodes, node: Any, batch: Sequence[Command], **rest: Any) -> list[Any]:
        batch_sizes.append(len(batch))
        return ask(self, node, batch, **rest)

    monkeypatch.setattr(Nodes, "_send", counted)
    commands = [("SET", f"key-{number}", number) for number in range(20)]
    reached = Nodes(5)
    reached.exchange(*commands)
    batch_sizes.clear()

    replies = reached.exchange(*(("GET", key) for _, key, _ in commands))

    assert replies == [str(number).encode() for number in range(20)]
    assert len(batch_sizes) == len(nodes), "one round trip to each node that has any of it"
    assert sum(batch_sizes) == 20
    reached.disconnect()


@pytest.mark.parametrize("nodes", [TWO_NODES], indirect=True, ids=["two nodes"])
def test_a_moved_slot_is_found_again(sent: list[Command], nodes: list[redis.Redis]) -> None:
    reached = Nodes(5)
    where = key_slot(b"moving")
    assert reached.exchange(("SET", "moving", 1)) == [b"OK"]
    ids = [node.execute_command("CLUSTER", "MYID").decode() for node in nodes]
    had = next(number for number, (first, last) in enumerate(TWO_NODES) if first <= where <= last)
    nodes[had].delete("moving")
    for owner in (1 - had, had):
        for node in nodes:
            node.execute_command("CLUSTER", "SETSLOT", where, "NODE", ids[owner])
        assert reached.exchange(("SET", "moving", 2)) == [b"OK"]
        nodes[owner].delete("moving")
    reached.disconnect()
    assert sent[0] == ("SET", "moving", 1)


@pytest.mark.parametrize("nodes", [TWO_NODES], indirect=True, ids=["two nodes"])
def test_a_redirection_loop_between_nodes_ends(
    sent: list[Command], nodes: list[redis.Redis], name: str
) -> None:
    """As during a failover: the request proceeds without Redis."""
    where = slot(("ZREM", "openreserve:{deadlines}"))
    ids = [node.execute_command("CLUSTER", "MYID").decode() for node in nodes]
    had = next(number for number, (first, last) in enumerate(TWO_NODES) if first <= where <= last)
    nodes[had].execute_command("CLUSTER", "SETSLOT", where, "NODE", ids[1 - had])
    try:
        set_stock(name, 2)
        assert reserve((name, 1)).status == 200
        assert cache_connection._state.get().pause.length_ms > 0
    finally:
        nodes[had].execute_command("CLUSTER", "SETSLOT", where, "NODE", ids[had])
    assert sent


@dataclass
class Cache:
    """A cache on ElastiCache, and its users."""

    admin: redis.Redis
    port: int
    bundle: str
    monkeypatch: pytest.MonkeyPatch

    def connect_functions_to(self, host: str, more: str = "") -> None:
        """Make the functions connect to this host name, independent of the certificate."""
        self.monkeypatch.setenv("REDIS_URL", f"rediss://{USER}@{host}:{self.port}?{more}")
        forget()

    def accept_only(self, token: str) -> None:
        """Accept this token, and no earlier one."""
        rules = ["on", "resetpass", f">{token}", "allkeys", "allcommands"]
        self.admin.execute_command("ACL", "SETUSER", USER, *rules)

    def auth_count(self) -> int:
        """The number of AUTH commands so far."""
        return int(self.admin.info("commandstats").get("cmdstat_auth", {}).get("calls", 0))


@pytest.fixture
def serverless(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """A serverless cache, configured for the functions. Their clock is frozen."""
    assert engine
    authority = Authority.new()
    variables = {
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "a/secret+key",
        "AWS_SESSION_TOKEN": "a/session+token==",
        "AWS_REGION": "eu-central-1",
        "REDIS_AUTH": "iam",
        "REDIS_CACHE_NAME": "openreserve-dev",
        "REDIS_RESOURCE_TYPE": "ServerlessCache",
        "REDIS_TIMEOUT_MS": "5000",
        "REDIS_CONNECT_TIMEOUT_MS": "5000",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    set_clock(monkeypatch, time.time())

    def getaddrinfo(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    shown = authority.vouch(HOST, tmp_path).context
    with redis_with_tls(tmp_path, shown) as (admin, port):
        cache = Cache(admin, port, f"ssl_ca_certs={authority.bundle(tmp_path)}", monkeypatch)
        cache.accept_only(iam_auth.cache_token("openreserve-dev", USER, "ServerlessCache"))
        cache.connect_functions_to(HOST, cache.bundle)
        yield cache
        forget()


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    stopped = SimpleNamespace(time=lambda: now, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(iam_auth, "time", stopped)


def test_a_token_opens_a_verified_connection_to_the_cache_once(
    serverless: Cache, name: str
) -> None:
    set_stock(name, 1)
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "ok"

    assert serverless.auth_count() == 1
    assert serverless.admin.exists("openreserve:{deadlines}")


def test_a_connection_closed_by_elasticache_is_replaced_with_a_new_token(
    serverless: Cache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 12 hours, when the token of the connection has long expired."""
    set_stock(name, 5)
    set_clock(monkeypatch, time.time() + 12 * 3_600)
    serverless.accept_only(iam_auth.cache_token("openreserve-dev", USER, "ServerlessCache"))
    serverless.admin.execute_command("CLIENT", "KILL", "USER", USER)

    assert call("health").json["redis"] == "ok"
    assert cache_connection._state.get().pause.length_ms == 0
    assert serverless.auth_count() == 2


@pytest.mark.parametrize("weaker", ["", "&ssl_cert_reqs=none", "&ssl_check_hostname=False"])
def test_the_token_is_not_sent_to_a_cache_of_another_name(
    serverless: Cache, weaker: str, name: str
) -> None:
    serverless.connect_functions_to(f"other-{HOST}", serverless.bundle + weaker)

    goes_on_without(serverless, name)


@pytest.mark.parametrize("weaker", ["", "ssl_cert_reqs=none"])
def test_the_token_is_not_sent_to_a_cache_without_an_amazon_certificate(
    serverless: Cache, weaker: str, name: str
) -> None:
    serverless.connect_functions_to(HOST, weaker)

    goes_on_without(serverless, name)


def test_without_credentials_requests_proceed_without_redis(
    serverless: Cache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    goes_on_without(serverless, name)


def goes_on_without(serverless: Cache, name: str) -> None:
    set_stock(name, 1)
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "unavailable"
    assert serverless.auth_count() == 0


def test_a_refused_token_only_disables_the_cache(serverless: Cache, name: str) -> None:
    serverless.accept_only("another")

    set_stock(name, 1)
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "unavailable"
    assert serverless.auth_count() > 0


def test_without_tls_no_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_AUTH", "iam")
    monkeypatch.setenv("REDIS_URL", "redis://openreserve-app@cache.example")
    forget()

    with pytest.raises(ValueError, match="rediss://"):
        settings.settings()
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("accepts_sign_in", "answer_ms", "connect_ms"), [(False, 60_000, 50), (True, 50, 60_000)]
)
def test_signing_in_has_a_longer_timeout_than_commands(
    *, accepts_sign_in: bool, answer_ms: int, connect_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server, before or after sign-in: only the timeout of that phase applies."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        monkeypatch.setenv("REDIS_URL", f"redis://user:password@127.0.0.1:{port}")
        monkeypatch.setenv("REDIS_TIMEOUT_MS", str(answer_ms))
        monkeypatch.setenv("REDIS_CONNECT_TIMEOUT_MS", str(connect_ms))
        forget()
        server = beside(lambda: _serve_silently(door, accepts_sign_in=accepts_sign_in))
        start = time.monotonic()

        assert cache_connection.execute(("GET", "anything")) is None

        assert time.monotonic() - start < 30, "it waited for the other one"
        cache_connection.disconnect()
        server.join()
    forget()


def _serve_silently(door: socket.socket, *, accepts_sign_in: bool) -> None:
    """Accept or ignore the sign-in of a client, and answer no other command."""
    connection, _ = door.accept()
    with connection:
        while received := connection.recv(4_096):
            if accepts_sign_in and b"GET" not in received:
                connection.sendall(b"+OK\r\n" * len(re.findall(rb"^\*", received, re.MULTILINE)))
