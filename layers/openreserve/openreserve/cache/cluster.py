"""Connections to Redis: one, or one to each node that a cluster sends us to. Knows no command.

ElastiCache Serverless is a cluster that answers for all keys at one address. redis-py's client for
clusters would ask for its layout first, with each cold start, and sleeps when a node is gone.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface, parse_url
from redis.crc import key_slot
from redis.exceptions import MovedError
from redis.retry import Retry

from openreserve.runtime import certificates, iam_auth
from openreserve.runtime.settings import settings

Command = tuple[Any, ...]
Node = tuple[str, int] | None
"""Host and port; None: where the URL leads."""

MOVES_MAX = 2
"""How often one command is sent on: a second time if its keys were moved again meanwhile."""


class Nodes:
    """What one thread has open. Connects when it is first used, and again after a loss."""

    def __init__(self, answer_seconds_max: float) -> None:
        """`answer_seconds_max`: how long an answer may take."""
        self._answer_seconds_max = answer_seconds_max
        self._connections: dict[Node, ConnectionInterface] = {}
        self._moved: dict[int, Node] = {}
        """Where the keys of a slot are, of those that are not where the URL leads."""

    def exchange(self, *commands: Command, repeatable: bool = True) -> list[Any]:
        """The replies, in one round trip; in another one for what a cluster has elsewhere.

        `repeatable`: whether all may be carried out twice, if a connection turns out to be dead.

        Raises:
            redis.RedisError: no answer in time, or a refusal; `disconnect` then.
        """
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(1 + MOVES_MAX):
            for node, numbers in self._by_node(commands, left).items():
                sent = [commands[number] for number in numbers]
                for number, reply in zip(
                    numbers, self._ask(node, sent, repeatable=repeatable), strict=True
                ):
                    replies[number] = reply
            left = [number for number in left if isinstance(replies[number], MovedError)]
            if not left:
                return replies
            for number in left:
                moved = replies[number]
                self._moved[moved.slot_id] = (moved.host, moved.port)
        raise replies[left[0]]

    def disconnect(self) -> None:
        """Close all, and forget where a cluster had what."""
        for connection in self._connections.values():
            connection.disconnect()
        self._connections.clear()
        self._moved.clear()

    def _by_node(self, commands: Sequence[Command], numbers: list[int]) -> dict[Node, list[int]]:
        if not self._moved:
            return {None: numbers}
        grouped = defaultdict(list)
        for number in numbers:
            grouped[self._moved.get(slot(commands[number]))].append(number)
        return grouped

    def _ask(self, node: Node, commands: Sequence[Command], *, repeatable: bool) -> list[Any]:
        """Send all commands, then read all replies.

        Over the bare connection: the library's client costs several times the CPU, mostly for
        choosing among connections, of which there is one, and for its own metrics.
        """
        connection = self._connections.get(node)
        if connection is None:
            connection = self._connections[node] = _connection(node)
        packed = connection.pack_commands(commands)
        try:
            connection.send_packed_command(packed)
            return [self._reply(connection) for _ in commands]
        except redis.ConnectionError:
            # It died while this environment was frozen, or ElastiCache has cut it after 12 hours.
            # A server that does not answer in time, which is another error, is not asked again.
            connection.disconnect()
            if not repeatable:
                raise
            connection.send_packed_command(packed)
            return [self._reply(connection) for _ in commands]

    def _reply(self, connection: ConnectionInterface) -> Any:
        try:
            return connection.read_response(timeout=self._answer_seconds_max)
        except MovedError as moved:
            return moved


def slot(command: Command) -> int:
    """Where in a cluster the keys of the command are: all of a command's are in one slot."""
    if len(command) == 1:
        return -1  # it has no keys
    return key_slot(str(command[3 if command[0] == "EVAL" else 1]).encode())


class _Token(redis.CredentialProvider):
    """Signs in with a new token whenever a connection is opened."""

    def __init__(self, user: str) -> None:
        self._user = user

    def get_credentials(self) -> tuple[str, str]:
        cache = settings().redis_cache_name
        try:
            token = iam_auth.cache_token(cache, self._user, settings().redis_resource_type)
        except iam_auth.CannotSign as missing:
            raise redis.AuthenticationError(str(missing)) from missing
        return self._user, token


def _connection(node: Node) -> ConnectionInterface:
    """Not connected yet. To connect, encrypt and sign in may take longer than an answer."""
    connect_seconds_max = settings().redis_connect_timeout_ms / 1_000
    options = {
        "socket_timeout": connect_seconds_max,
        "socket_connect_timeout": connect_seconds_max,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        **parse_url(settings().redis_url),
    }
    if settings().redis_auth == "iam":
        # Whoever has the token can sign in with it: it is told to no other server.
        options = {"ssl_ca_certs": str(certificates.AMAZON_ROOTS)} | options
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options["credential_provider"] = _Token(options.pop("username"))
    if node is not None:
        options |= {"host": node[0] or options["host"], "port": node[1]}
    return redis.ConnectionPool(**options).make_connection()
