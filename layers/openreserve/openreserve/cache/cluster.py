"""Connections to Redis: one, or one per cluster node after a MOVED redirect. Knows no command.

ElastiCache Serverless is a cluster that serves all keys at one address. redis-py's cluster client
would query the cluster layout in each cold start, and sleeps when a node is unreachable.
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
"""Host and port; None: those of the URL."""

MOVES_MAX = 2
"""How many MOVED redirects are followed per command: a second if the slot moved in the meantime."""


class Nodes:
    """The connections of one thread. Connects at the first use, and again after a loss."""

    def __init__(self, reply_timeout_seconds: float) -> None:
        self._reply_timeout_seconds = reply_timeout_seconds
        self._connections: dict[Node, ConnectionInterface] = {}
        self._moved: dict[int, Node] = {}
        """The node of each slot that is not at the node of the URL."""

    def exchange(self, *commands: Command, repeatable: bool = True) -> list[Any]:
        """The replies, in one round trip, plus one for commands that a cluster redirects.

        `repeatable`: whether all commands may be executed twice, if a connection is found dead.

        Raises:
            redis.RedisError: timeout or error reply; call `disconnect` then.
        """
        replies: list[Any] = [None] * len(commands)
        pending = list(range(len(commands)))
        for _ in range(1 + MOVES_MAX):
            for node, numbers in self._by_node(commands, pending).items():
                batch = [commands[number] for number in numbers]
                for number, reply in zip(
                    numbers, self._send(node, batch, repeatable=repeatable), strict=True
                ):
                    replies[number] = reply
            pending = [number for number in pending if isinstance(replies[number], MovedError)]
            if not pending:
                return replies
            for number in pending:
                moved = replies[number]
                self._moved[moved.slot_id] = (moved.host, moved.port)
        raise replies[pending[0]]

    def disconnect(self) -> None:
        """Close all connections, and forget the redirects."""
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

    def _send(self, node: Node, commands: Sequence[Command], *, repeatable: bool) -> list[Any]:
        """Send all commands, then read all replies.

        Uses redis-py's connection directly: its client costs several times the CPU, mostly for the
        connection pool, which has one connection here, and for its own metrics.
        """
        connection = self._connections.get(node)
        if connection is None:
            connection = self._connections[node] = _connection(node)
        packed = connection.pack_commands(commands)
        try:
            connection.send_packed_command(packed)
            return [self._reply(connection) for _ in commands]
        except redis.ConnectionError:
            # The connection was lost while this environment was frozen, or ElastiCache closed it
            # after 12 hours. A timeout is a different error, and the commands are not sent again.
            connection.disconnect()
            if not repeatable:
                raise
            connection.send_packed_command(packed)
            return [self._reply(connection) for _ in commands]

    def _reply(self, connection: ConnectionInterface) -> Any:
        try:
            return connection.read_response(timeout=self._reply_timeout_seconds)
        except MovedError as moved:
            return moved


def slot(command: Command) -> int:
    """The cluster slot of the command's keys: all keys of a command are in one slot."""
    if len(command) == 1:
        return -1  # no keys
    return key_slot(str(command[3 if command[0] == "EVAL" else 1]).encode())


class _Token(redis.CredentialProvider):
    """Authenticates each new connection with a new IAM token."""

    def __init__(self, user: str) -> None:
        self._user = user

    def get_credentials(self) -> tuple[str, str]:
        cache = settings().redis_cache_name
        try:
            token = iam_auth.cache_token(cache, self._user, settings().redis_resource_type)
        except iam_auth.CannotSign as error:
            raise redis.AuthenticationError(str(error)) from error
        return self._user, token


def _connection(node: Node) -> ConnectionInterface:
    """A connection that is not open yet. TCP, TLS and AUTH have a timeout apart from replies."""
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
        # The token is a bearer credential, so the certificate of the server is always verified.
        options = {"ssl_ca_certs": str(certificates.AMAZON_ROOTS)} | options
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options["credential_provider"] = _Token(options.pop("username"))
    if node is not None:
        options |= {"host": node[0] or options["host"], "port": node[1]}
    return redis.ConnectionPool(**options).make_connection()
