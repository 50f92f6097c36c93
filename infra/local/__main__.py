"""`make run`: the API on one machine, from the same template.yaml as on AWS."""

import argparse
import asyncio
import errno
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

import openreserve
from infra.local import aws, docs, gateway, services, sqs
from infra.local.auth import callers
from infra.local.auth.authorizers import Admit
from infra.local.auth.callers import Callers
from infra.local.black_friday import BlackFriday
from infra.local.connections import CONNECTIONS_MAX, Limits, Runner
from infra.local.cors import add_cors
from infra.local.dashboard import pages
from infra.local.lambda_pool import Failed, Pool
from infra.local.metrics import Exposition
from infra.local.schedule import Schedules
from infra.local.template import model
from infra.local.template.intrinsics import TemplateError
from infra.local.terminal import Terminal

ROOT = Path(__file__).parents[2]
WAITING_MAX = 5_000
"""Events that may wait for an environment of one function; more are refused with 503."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """What the functions use."""

    postgres: services.Postgres
    redis: services.Redis
    aws: aws.Aws

    @property
    def parameters(self) -> dict[str, str]:
        """Values of the template's parameters: where the servers are, and that this is a laptop."""
        return {
            "DatabaseUrl": self.postgres.app_url,
            "MigrationUrl": self.postgres.migration_url,
            "RedisUrl": self.redis.url,
            "AwsEndpointUrl": self.aws.url,
            "WebhookDevelopment": "1",
            "WebhookCacheSeconds": "1",
        }


class CannotRun(Exception):
    """The API is not served: the text says in one line what is in the way."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C. 0: stopped; 1: it could not run, and standard error says why."""
    options = _options(arguments)
    _take_signals()
    try:
        sockets = _listen(options.host, options.port)
        with _alone_in(options.state):
            admitted = _callers(options)
            with (
                # First: it takes longest, and starts beside the others.
                aws.server(options.state) as own_aws,
                services.postgres(options.state) as postgres,
                services.redis(options.state) as redis,
            ):
                servers = _Servers(postgres, redis, own_aws)
                asyncio.run(_serve(options, sockets, servers, admitted))
    except (CannotRun, services.Unreachable, TemplateError, Failed) as reason:
        sys.stderr.write(f"OpenReserve cannot run: {reason}\n")
        return 1
    except KeyboardInterrupt:
        pass  # stopped before it served
    return 0


def _take_signals() -> None:
    """Stop in order from the first moment on: a server that has been started is stopped, too.

    A process that a script starts with `&` inherits that SIGINT is ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    parser.add_argument("--host", default="localhost", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="(%(default)s)")
    parser.add_argument(
        "--state", type=Path, help="folder of what survives a restart (.openreserve/PORT)"
    )
    parser.add_argument(
        "--environments",
        type=int,
        default=4 * (os.cpu_count() or 1),
        metavar="N",
        help="at most N execution environments per function (%(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the functions' log and metrics as they are"
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="another value for a parameter of template.yaml, such as ReservationEvents=1",
    )
    parser.add_argument(
        "--jwks",
        default="",
        metavar="FILE|URL",
        help="with Authorizer=JWT: the keys of JwtIssuer (where the issuer says that they are)",
    )
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="with Authorizer=IAM: the key pairs of callers (new ones, in the folder --state)",
    )
    parser.add_argument(
        "--load-test",
        default="tests.load",
        metavar="MODULE",
        help="what the dashboard starts as Black Friday (%(default)s)",
    )
    options = parser.parse_args(arguments)
    options.state = options.state or ROOT / ".openreserve" / str(options.port)
    return options


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=VALUE")
    return name, value


def _callers(options: argparse.Namespace) -> Callers:
    given = dict(options.parameter)
    template_file = ROOT / "template.yaml"
    return callers.named(given, template_file, options.state, options.jwks, options.credentials)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of the host: a browser may try ::1 first, and curl 127.0.0.1."""
    sockets = []
    for family, _, _, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            sockets.append(socket.create_server(address[:2], family=family, backlog=4_096))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotRun(
                    f"port {port} is in use; stop what listens there, or: make run PORT={port + 1}"
                ) from None
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise CannotRun(f"cannot listen on {host} port {port}: {error}") from None
    if not sockets:
        raise CannotRun(f"{host} is no address of this machine")
    return sockets


@contextmanager
def _alone_in(state: Path) -> Iterator[None]:
    """The folder, held so that no second runtime starts a server on the same data."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / "lock").touch()
    except OSError as reason:
        raise CannotRun(f"no data can be kept in {state}: {reason.strerror}") from None
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another one runs on {state}") from None
        yield


async def _serve(
    options: argparse.Namespace,
    sockets: list[socket.socket],
    servers: _Servers,
    admitted: Callers,
) -> None:
    limits = _allow_many_sockets()
    exposition = Exposition(servers.postgres.app_url)
    terminal = Terminal(as_json=options.json, take_metrics=exposition.take_line)
    running = model.load(
        ROOT / "template.yaml", servers.parameters | dict(options.parameter), servers.aws.url
    )
    pools = [
        Pool(
            function,
            options.environments,
            WAITING_MAX,
            terminal.show_line,
            of_lambda=servers.aws.variables,
        )
        for function in running.functions
    ]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    exposition.watch(pools)
    black_friday = BlackFriday(_url(options), options.load_test)
    application = _application(pools, terminal, exposition, black_friday, admitted.admit)
    runner = Runner(application, limits)
    schedules = Schedules(pools)
    mappings = sqs.Mappings(pools, servers.aws)
    add_cors(application, running.cors)
    try:
        for pool in pools:
            await pool.start()
        await _migrate(pools)
        servers.aws.wait_until_up()
        sqs.create(servers.aws, running.queues)
        await runner.setup()
        for listening in sockets:
            await web.SockSite(runner, listening, backlog=4_096).start()
        schedules.start()
        mappings.start()
        if not options.json:
            print(_greeting(options, servers, pools, admitted.title), flush=True)
        await stop.wait()
    finally:
        await schedules.stop()
        await mappings.stop()
        await runner.cleanup()
        await asyncio.gather(*(pool.stop() for pool in pools))


def _application(
    pools: Sequence[Pool],
    terminal: Terminal,
    exposition: Exposition,
    black_friday: BlackFriday,
    admit: Admit,
) -> web.Application:
    def add_pages(app: web.Application) -> None:
        docs.add_pages(app)
        pages.add_pages(app, black_friday)
        app.router.add_get("/metrics", exposition.answer)

    listeners = (exposition.take_answer, terminal.show_answer)
    return gateway.application(pools, listeners, add_pages, admit)


async def _migrate(pools: Sequence[Pool]) -> None:
    """As a deployment does: before there is traffic."""
    (migrate,) = (pool for pool in pools if pool.function.name == "MigrateFunction")
    try:
        await migrate.invoke(b"{}")
    except Failed as failure:  # with its stack trace, which the terminal has shown already
        raise CannotRun(str(failure).splitlines()[0]) from None


def _allow_many_sockets() -> Limits:
    """Two thousand callers are two thousand sockets; many systems allow 1,024 unless asked.

    Returns the limits of the gateway, which leaves half of the sockets to the rest.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return Limits(connections=min(CONNECTIONS_MAX, wanted // 2))


def _greeting(
    options: argparse.Namespace, servers: _Servers, pools: Sequence[Pool], admitted: str
) -> str:
    url = _url(options)
    names = ", ".join(pool.function.name.removesuffix("Function") for pool in pools)
    return f"""
OpenReserve {openreserve.__version__} serves {url}/api/v1, documented at {url}/docs
  functions  {names}: up to {options.environments} environments each
  Postgres   {servers.postgres.title}
  Redis      {servers.redis.title}
  SQS        moto, in memory; events go to whom POST /webhooks names
  Dashboard  {url}/dashboard
  Callers    {admitted}
Try:
  curl -X POST {url}/api/v1/resources -H "Content-Type: application/json" \\
    -d '{{"resourceId": "hotel-room-101", "totalStock": 50}}'
Ctrl-C stops it; what is stored stays, and `make run` goes on with it.
"""


def _url(options: argparse.Namespace) -> str:
    return f"http://{options.host}:{options.port}"


if __name__ == "__main__":
    sys.exit(main())
