"""PgBouncer in transaction mode in front of Postgres: the closest replacement for RDS Proxy.

It is stricter: a named prepared statement fails immediately, while RDS Proxy pins the connection.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

from tests.e2e.runtime import free_port

ROLES = ("openreserve_app", "openreserve_reader")
ADMIN = "pooler_admin"
START_SECONDS_MAX = 10


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer."""

    url: str
    """Postgres through the pool, as user openreserve_app."""

    def show(self, what: str) -> list[dict[str, Any]]:
        """The rows of SHOW POOLS, CLIENTS, LISTS ... of the admin console."""
        url = self.url.replace(ROLES[0], ADMIN).replace("/openreserve?", "/pgbouncer?")
        with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as console:
            return console.execute(f"SHOW {what}".encode()).fetchall()


def program() -> str | None:
    """The path of PgBouncer, also in /usr/sbin, which is often only on the PATH of root."""
    path = os.environ.get("PATH", "")
    if "/usr/bin" in path.split(":"):
        path += ":/usr/sbin"
    return shutil.which("pgbouncer", path=path)


@contextmanager
def pooled(
    postgres_url: str, state: Path, *, size: int, clients_max: int = 500, borrow_seconds: int = 3
) -> Iterator[Pooler]:
    """A pool with `size` backends per role, to the Postgres whose data is in `state`.

    A client that waits for a backend longer than `borrow_seconds` gets an error. A function tries
    twice within its timeout of 10 seconds, the second time over a new connection.
    """
    binary = program()
    assert binary is not None, "the caller checks it"
    port = free_port()
    folder = state / f"pgbouncer-{port}"
    folder.mkdir()
    settings = _settings(binary) | {
        "listen_port": port,
        "auth_file": folder / "users.txt",
        "default_pool_size": size,
        "max_client_conn": clients_max,
        "query_wait_timeout": borrow_seconds,
    }
    _write(folder, postgres_url, settings)
    owner = (state / "postgres").stat()  # like Postgres, PgBouncer refuses to run as root
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [binary, "--quiet", folder / "pgbouncer.ini"],
            stdout=log,
            stderr=log,
            **_as_user(owner.st_uid, owner.st_gid),
        )
        pooler = Pooler(
            f"postgresql://{ROLES[0]}@127.0.0.1:{port}/openreserve"
            "?sslmode=disable&gssencmode=disable"
        )
        try:
            _wait_until_up(pooler, process, folder / "log")
            yield pooler
        finally:
            process.terminate()
            process.wait()


def _as_user(user: int, group: int) -> dict[str, Any]:
    if os.getuid() == user:
        return {}
    return {"user": user, "group": group, "extra_groups": []}


def _settings(binary: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "listen_addr": "127.0.0.1",
        "listen_backlog": 4_096,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "admin_users": ADMIN,
        "pool_mode": "transaction",
        "server_login_retry": 1,
        "log_connections": 0,
        "log_disconnections": 0,
    }
    if _version(binary) >= (1, 21):  # supports prepared statements since 1.21
        settings["max_prepared_statements"] = 0
    return settings


def _write(folder: Path, postgres_url: str, settings: Mapping[str, Any]) -> None:
    (host,) = parse_qs(urlsplit(postgres_url).query)["host"]
    lines = [
        "[databases]",
        f"openreserve = host={host}",
        "[pgbouncer]",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    (folder / "users.txt").write_text("".join(f'"{role}" ""\n' for role in (*ROLES, ADMIN)))


def _version(binary: str) -> tuple[int, ...]:
    output = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=True
    ).stdout
    version = re.search(r"(\d+)\.(\d+)", output)
    assert version is not None, output
    return tuple(map(int, version.groups()))


def _wait_until_up(pooler: Pooler, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            pooler.show("version")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer did not start: {log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
