"""Redis as ElastiCache has it: a cluster, with TLS that is verified and tokens for passwords."""

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
    """The engine with a cluster for its Redis, and all commands that it sends there."""
    assert engine
    commands: list[Command] = []
    exchange = Nodes.exchange

    def kept(self: Nodes, *given: Command, repeatable: bool = True) -> list[Any]:
        commands.extend(given)
        return exchange(self, *given, repeatable=repeatable)

    monkeypatch.setattr(Nodes, "exchange", kept)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port_of(nodes[0])}")
    monkeypatch.setenv("REDIS_TIMEOUT_MS", "5000")
    monkeypatch.setenv("REDIS_CONNECT_TIMEOUT_MS", "5000")
    forget()
    for node in nodes:
        node.flushall()
    yield commands
    forget()


def everything(name: str) -> None:
    """All that the engine does with Redis, with the answers that it has to get."""
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
        found = hints.wait_for_due(5, 10)
        assert found is not None
        due = found
    assert [str(one) for one in due] == [token]
    hints.forget_holds(*due)
    assert call("health").json["redis"] == "ok"


def test_every_command_goes_to_one_slot_of_a_cluster(
    sent: list[Command], nodes: list[redis.Redis], name: str
) -> None:
    everything(name)

    assert cache_connection._of_this_thread.pause.length_ms == 0, "no refusal, by any node"
    for command in sent:
        keys = nodes[0].execute_command("COMMAND GETKEYS", *command) if len(command) > 1 else []
        assert {key_slot(key.encode()) for key in keys} <= {slot(command)}, command
    source = Path(hints.__file__).read_text() + Path(cache_connection.__file__).read_text()
    known = set(re.findall(r'\(\s*"([A-Z]{3,})"', source))
    assert {str(command[0]) for command in sent} == known


def test_where_a_cluster_has_what_is_found_out_once(
    sent: list[Command], nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sent == []
    asked: list[int] = []
    ask = Nodes._ask

    def counted(self: Nodes, node: Any, given: Sequence[Command], **rest: Any) -> list[Any]:
        asked.append(len(given))
        return ask(self, node, given, **rest)

    monkeypatch.setattr(Nodes, "_ask", counted)
    commands = [("SET", f"key-{number}", number) for number in range(20)]
    reached = Nodes(5)
    reached.exchange(*commands)
    asked.clear()

    replies = reached.exchange(*(("GET", key) for _, key, _ in commands))

    assert replies == [str(number).encode() for number in range(20)]
    assert len(asked) == len(nodes), "one round trip to each node that has any of it"
    assert sum(asked) == 20
    reached.disconnect()


@pytest.mark.parametrize("nodes", [TWO_NODES], indirect=True, ids=["two nodes"])
def test_what_a_cluster_moves_later_is_found_again(
    sent: list[Command], nodes: list[redis.Redis]
) -> None:
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
def test_nodes_that_send_us_to_each_other_are_left_alone(
    sent: list[Command], nodes: list[redis.Redis], name: str
) -> None:
    """As in the midst of a failover: the request goes on without."""
    where = slot(("ZREM", "openreserve:{deadlines}"))
    ids = [node.execute_command("CLUSTER", "MYID").decode() for node in nodes]
    had = next(number for number, (first, last) in enumerate(TWO_NODES) if first <= where <= last)
    nodes[had].execute_command("CLUSTER", "SETSLOT", where, "NODE", ids[1 - had])
    try:
        set_stock(name, 2)
        assert reserve((name, 1)).status == 200
        assert cache_connection._of_this_thread.pause.length_ms > 0
    finally:
        nodes[had].execute_command("CLUSTER", "SETSLOT", where, "NODE", ids[had])
    assert sent


@dataclass
class Cache:
    """A cache on ElastiCache, and who may sign in."""

    admin: redis.Redis
    port: int
    bundle: str
    monkeypatch: pytest.MonkeyPatch

    def lead_to(self, host: str, more: str = "") -> None:
        """Make the functions look for it under this name, whatever it shows."""
        self.monkeypatch.setenv("REDIS_URL", f"rediss://{USER}@{host}:{self.port}?{more}")
        forget()

    def let_in(self, token: str) -> None:
        """Whoever has this token, and nobody who had another."""
        rules = ["on", "resetpass", f">{token}", "allkeys", "allcommands"]
        self.admin.execute_command("ACL", "SETUSER", USER, *rules)

    def told(self) -> int:
        """How often a token was told to it."""
        return int(self.admin.info("commandstats").get("cmdstat_auth", {}).get("calls", 0))


@pytest.fixture
def serverless(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """One of ElastiCache Serverless, where the functions look for it. Their clock stands still."""
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
        made = Cache(admin, port, f"ssl_ca_certs={authority.bundle(tmp_path)}", monkeypatch)
        made.let_in(iam_auth.cache_token("openreserve-dev", USER, "ServerlessCache"))
        made.lead_to(HOST, made.bundle)
        yield made
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

    assert serverless.told() == 1
    assert serverless.admin.exists("openreserve:{deadlines}")


def test_a_connection_that_elasticache_cuts_is_replaced_with_a_new_token(
    serverless: Cache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 12 hours, when the token that opened it is long over."""
    set_stock(name, 5)
    set_clock(monkeypatch, time.time() + 12 * 3_600)
    serverless.let_in(iam_auth.cache_token("openreserve-dev", USER, "ServerlessCache"))
    serverless.admin.execute_command("CLIENT", "KILL", "USER", USER)

    assert call("health").json["redis"] == "ok"
    assert cache_connection._of_this_thread.pause.length_ms == 0
    assert serverless.told() == 2


@pytest.mark.parametrize("weaker", ["", "&ssl_cert_reqs=none", "&ssl_check_hostname=False"])
def test_the_token_is_not_sent_to_a_cache_of_another_name(
    serverless: Cache, weaker: str, name: str
) -> None:
    serverless.lead_to(f"other-{HOST}", serverless.bundle + weaker)

    goes_on_without(serverless, name)


@pytest.mark.parametrize("weaker", ["", "ssl_cert_reqs=none"])
def test_the_token_is_not_sent_to_a_cache_without_an_amazon_certificate(
    serverless: Cache, weaker: str, name: str
) -> None:
    serverless.lead_to(HOST, weaker)

    goes_on_without(serverless, name)


def test_without_credentials_redis_is_gone_on_without(
    serverless: Cache, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    goes_on_without(serverless, name)


def goes_on_without(serverless: Cache, name: str) -> None:
    set_stock(name, 1)
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "unavailable"
    assert serverless.told() == 0


def test_a_token_that_is_refused_costs_speed_and_nothing_else(serverless: Cache, name: str) -> None:
    serverless.let_in("another")

    set_stock(name, 1)
    assert reserve((name, 1)).status == 200
    assert call("health").json["redis"] == "unavailable"
    assert serverless.told() > 0


def test_without_tls_no_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_AUTH", "iam")
    monkeypatch.setenv("REDIS_URL", "redis://openreserve-app@cache.example")
    forget()

    with pytest.raises(ValueError, match="rediss://"):
        settings.settings()
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("lets_in", "answer_ms", "connect_ms"), [(False, 60_000, 50), (True, 50, 60_000)]
)
def test_to_let_in_may_take_longer_than_to_answer(
    *, lets_in: bool, answer_ms: int, connect_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is silent, at the door or behind it: only the time-out of that counts."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        monkeypatch.setenv("REDIS_URL", f"redis://user:password@127.0.0.1:{port}")
        monkeypatch.setenv("REDIS_TIMEOUT_MS", str(answer_ms))
        monkeypatch.setenv("REDIS_CONNECT_TIMEOUT_MS", str(connect_ms))
        forget()
        server = beside(lambda: _serve_nobody(door, lets_in=lets_in))
        start = time.monotonic()

        assert cache_connection.ask(("GET", "anything")) is None

        assert time.monotonic() - start < 30, "it waited for the other one"
        cache_connection.disconnect()
        server.join()
    forget()


def _serve_nobody(door: socket.socket, *, lets_in: bool) -> None:
    """Let a client sign in, or not, and answer nothing that it asks for."""
    connection, _ = door.accept()
    with connection:
        while asked := connection.recv(4_096):
            if lets_in and b"GET" not in asked:
                connection.sendall(b"+OK\r\n" * len(re.findall(rb"^\*", asked, re.MULTILINE)))
