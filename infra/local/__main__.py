"""`make run`: serves the API on one machine, from the template.yaml that is deployed to AWS."""

import argparse
import asyncio
import errno
import fcntl
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
from infra.local import aws, options, services
from infra.local.auth import callers
from infra.local.auth.authorizers import Authorizer
from infra.local.auth.callers import Callers
from infra.local.aws import sqs
from infra.local.aws.scheduler import Schedules
from infra.local.dashboard import pages
from infra.local.dashboard.black_friday import BlackFriday
from infra.local.http import docs, gateway
from infra.local.http.connections import CONNECTIONS_MAX, Limits, Runner
from infra.local.http.cors import add_cors
from infra.local.lambdas.pool import Failed, Pool
from infra.local.metrics import Exposition
from infra.local.options import ROOT
from infra.local.template import model
from infra.local.template.intrinsics import TemplateError
from infra.local.terminal import Terminal

TEMPLATE = ROOT / "template.yaml"
QUEUED_EVENTS_MAX = 5_000
"""Events per function that may wait for an environment. Further events are refused with 503."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """The servers that the functions connect to."""

    postgres: services.Postgres
    redis: services.Redis
    aws: aws.Aws

    @property
    def parameters(self) -> dict[str, str]:
        """Template parameters: the addresses of the servers, and development settings."""
        return {
            "DatabaseUrl": self.postgres.app_url,
            "MigrationUrl": self.postgres.migration_url,
            "RedisUrl": self.redis.url,
            "AwsEndpointUrl": self.aws.url,
            "WebhookDevelopment": "1",
            "WebhookCacheSeconds": "1",
        }


class CannotRun(Exception):
    """The API cannot be served. The message is one line that names the cause."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C. Exit code 0: stopped; 1: could not run, standard error says why."""
    parsed = options.parse(arguments, __doc__ or "")
    _handle_signals()
    try:
        sockets = _listen(parsed.host, parsed.port)
        with _locked(parsed.state):
            allowed_callers = _callers(parsed)
            with (
                # moto starts slowest, so it starts first and in parallel with the others.
                aws.server(parsed.state) as moto,
                services.postgres(parsed.state) as postgres,
                services.redis(parsed.state) as redis,
            ):
                servers = _Servers(postgres, redis, moto)
                asyncio.run(_serve(parsed, sockets, servers, allowed_callers))
    except (CannotRun, services.Unreachable, TemplateError, Failed) as error:
        sys.stderr.write(f"OpenReserve cannot run: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass  # stopped during start-up
    return 0


def _handle_signals() -> None:
    """Shut down cleanly on SIGINT and SIGTERM, also during start-up, so that no server is left.

    A process that a script starts with `&` inherits SIGINT as ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _callers(parsed: argparse.Namespace) -> Callers:
    parameters = dict(parsed.parameter)
    return callers.configured(parameters, TEMPLATE, parsed.state, parsed.jwks, parsed.credentials)


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
                    f"port {port} is in use; stop the process that listens on it,"
                    f" or run: make run PORT={port + 1}"
                ) from None
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise CannotRun(f"cannot listen on {host} port {port}: {error}") from None
    if not sockets:
        raise CannotRun(f"{host} is not an address of this machine")
    return sockets


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold a file lock on the folder, so that two runtimes never use the same data."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / "lock").touch()
    except OSError as error:
        raise CannotRun(f"cannot write to {state}: {error.strerror}") from None
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"{state} is in use by another process") from None
        yield


async def _serve(
    parsed: argparse.Namespace,
    sockets: list[socket.socket],
    servers: _Servers,
    allowed_callers: Callers,
) -> None:
    limits = _raise_socket_limit()
    exposition = Exposition(servers.postgres.app_url)
    terminal = Terminal(as_json=parsed.json, take_metrics=exposition.take_line)
    template = model.load(TEMPLATE, servers.parameters | dict(parsed.parameter), servers.aws.url)
    pools = [
        Pool(
            function,
            parsed.environments,
            QUEUED_EVENTS_MAX,
            terminal.show_line,
            lambda_variables=servers.aws.variables,
        )
        for function in template.functions
    ]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    exposition.watch(pools)
    black_friday = BlackFriday(_url(parsed), parsed.load_test)
    application = _application(pools, terminal, exposition, black_friday, allowed_callers.authorize)
    runner = Runner(application, limits)
    schedules = Schedules(pools)
    mappings = sqs.Mappings(pools, servers.aws)
    add_cors(application, template.cors)
    try:
        for pool in pools:
            await pool.start()
        await _migrate(pools)
        servers.aws.wait_until_up()
        sqs.create(servers.aws, template.queues)
        await runner.setup()
        for listening in sockets:
            await web.SockSite(runner, listening, backlog=4_096).start()
        schedules.start()
        mappings.start()
        if not parsed.json:
            print(_banner(parsed, servers, pools, allowed_callers.description), flush=True)
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
    authorize: Authorizer,
) -> web.Application:
    def add_pages(app: web.Application) -> None:
        docs.add_pages(app)
        pages.add_pages(app, black_friday)
        app.router.add_get("/metrics", exposition.answer)

    listeners = (exposition.take_request, terminal.show_request)
    return gateway.application(pools, listeners, add_pages, authorize)


async def _migrate(pools: Sequence[Pool]) -> None:
    """Apply the migrations before there is traffic, as a deployment does."""
    (migrate,) = (pool for pool in pools if pool.function.name == "MigrateFunction")
    try:
        await migrate.invoke(b"{}")
    except Failed as failure:  # the terminal has already shown its stack trace
        raise CannotRun(str(failure).splitlines()[0]) from None


def _raise_socket_limit() -> Limits:
    """Raise the soft limit of open files: many systems default to 1,024 sockets, and the load
    test alone needs 2,000.

    Returns the limits of the gateway, which leaves half of the sockets to the other components.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Limits(connections=min(CONNECTIONS_MAX, soft // 2))


def _banner(
    parsed: argparse.Namespace, servers: _Servers, pools: Sequence[Pool], callers_description: str
) -> str:
    url = _url(parsed)
    names = ", ".join(pool.function.name.removesuffix("Function") for pool in pools)
    return f"""
OpenReserve {openreserve.__version__} serves {url}/api/v1, documented at {url}/docs
  Functions  {names}: up to {parsed.environments} environments each
  Postgres   {servers.postgres.title}
  Redis      {servers.redis.title}
  SQS        moto, in memory; events go to the endpoints of POST /webhooks
  Dashboard  {url}/dashboard
  Callers    {callers_description}
Try:
  curl -X POST {url}/api/v1/resources -H "Content-Type: application/json" \\
    -d '{{"resourceId": "hotel-room-101", "totalStock": 50}}'
Press Ctrl-C to stop. Data is kept; the next `make run` uses it again.
"""


def _url(parsed: argparse.Namespace) -> str:
    return f"http://{parsed.host}:{parsed.port}"


if __name__ == "__main__":
    sys.exit(main())
