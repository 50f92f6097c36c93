"""PgBouncer in front of a Postgres, in transaction mode: the nearest thing to RDS Proxy there is.

It is stricter: a named prepared statement fails at once there, where RDS Proxy only stops pooling.
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
    """A running one."""

    url: str
    """Postgres through the pool, as user openreserve_app."""

    def show(self, what: str) -> list[dict[str, Any]]:
        """What its console says of `pools`, `clients`, `lists` ..."""
        url = self.url.replace(ROLES[0], ADMIN).replace("/openreserve?", "/pgbouncer?")
        with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as console:
            return console.execute(f"SHOW {what}".encode()).fetchall()


def program() -> str | None:
    """Where PgBouncer is installed, if it is: often beside /usr/bin, on the PATH of root alone."""
    path = os.environ.get("PATH", "")
    if "/usr/bin" in path.split(":"):
        path += ":/usr/sbin"
    return shutil.which("pgbouncer", path=path)


@contextmanager
def pooled(
    postgres_url: str, state: Path, *, size: int, clients_max: int = 500, borrow_seconds: int = 3
) -> Iterator[Pooler]:
    """A pool of so many backends for each role, to the Postgres whose data is in `state`.

    Who waits for a backend longer than `borrow_seconds` is sent away. A function asks twice within
    its 10 seconds, once over a new connection.
    """
    binary = program()
    assert binary is not None, "the caller has looked"
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
    owner = (state / "postgres").stat()  # it refuses to run as root, and so does Postgres
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
    if _version(binary) >= (1, 21):  # since then it can prepare statements for its clients
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
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", told)
    assert found is not None, told
    return tuple(map(int, found.groups()))


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
