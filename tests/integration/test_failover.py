"""A demoted, terminated, stopped or full server: 503 or a second attempt, never 500."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psutil
import pytest

from infra.local import services
from openreserve.postgres import connection
from openreserve.postgres.migrations import migrate
from tests.conftest import Engine, forget
from tests.support.handlers import Reply, commit, hold, read_resource, release, reserve, set_stock

UNAVAILABLE = (503, "database_unavailable")


@pytest.fixture(autouse=True)
def _not_pooled(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--pooled"):
        pytest.skip("a pool keeps backends of its own, which these tests would have to replace")


@contextmanager
def role_has(engine: Engine, on: LiteralString, off: LiteralString) -> Iterator[None]:
    """Change the role for new connections. A kept connection does not change."""
    connection.disconnect()
    engine.sql(on)
    try:
        yield
    finally:
        engine.sql(off)


def read_only(engine: Engine) -> AbstractContextManager[None]:
    return role_has(
        engine,
        "ALTER ROLE openreserve_app IN DATABASE openreserve SET default_transaction_read_only = on",
        "ALTER ROLE openreserve_app IN DATABASE openreserve RESET default_transaction_read_only",
    )


def test_a_connection_that_is_read_only_after_a_failover_is_replaced(
    engine: Engine, name: str
) -> None:
    set_stock(name, 9)
    sold, given_back = hold((name, 1)), hold((name, 1))
    version = read_resource(name).headers["etag"]
    verbs: list[Callable[[], Reply]] = [
        lambda: reserve((name, 1), key=name),
        lambda: commit(sold),
        lambda: release(given_back),
        lambda: set_stock(name, 10, **{"if-match": version}),
    ]
    for verb in verbs:
        with read_only(engine):
            assert read_resource(name).status == 200
        assert verb().status == 200

    assert read_resource(name).json["availableStock"] == 8


def test_while_all_servers_are_read_only_writes_are_503_and_reads_work(
    engine: Engine, name: str
) -> None:
    set_stock(name, 9)
    token = hold((name, 1))
    with read_only(engine):
        refused = [reserve((name, 1), key=name), commit(token), release(token), set_stock(name, 8)]

        assert {(reply.status, reply.code) for reply in refused} == {UNAVAILABLE}
        assert {reply.headers["retry-after"] for reply in refused} == {"1"}
        assert read_resource(name).json["availableStock"] == 8
    assert reserve((name, 1), key=name).status == 200
    assert read_resource(name).json["availableStock"] == 7


def test_a_refused_connection_is_503_and_the_next_request_connects(
    engine: Engine, name: str
) -> None:
    set_stock(name, 1)
    with role_has(
        engine,
        "ALTER ROLE openreserve_app CONNECTION LIMIT 0",
        "ALTER ROLE openreserve_app CONNECTION LIMIT -1",
    ):
        full = reserve((name, 1), key=name)

        assert (full.status, full.code) == UNAVAILABLE
    assert reserve((name, 1), key=name).status == 200


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restarted_server_fails_no_request(
    mode: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with services.postgres(tmp_path) as postgres:
        migrate(postgres.migration_url)
        monkeypatch.setenv("DATABASE_URL", postgres.app_url)
        monkeypatch.setenv("REDIS_URL", "")
        forget()
        set_stock(name, 5)
        first = reserve((name, 1), key=name)

        server = Server(tmp_path / "postgres")
        server.control("stop", "-m", mode)
        down = reserve((name, 1), key=f"{name}-2")
        server.control("start", "-o", server.options)

        assert (down.status, down.code) == UNAVAILABLE
        assert reserve((name, 1), key=name).text == first.text
        server.control("restart", "-m", mode)
        assert reserve((name, 1), key=f"{name}-2").status == 200, "over a connection that was kept"
        assert read_resource(name).json["availableStock"] == 3
        forget()


class Server:
    """An embedded Postgres that the test stops and starts."""

    def __init__(self, data: Path) -> None:
        self._data = data
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        self._pg_ctl = Path(psutil.Process(pid).exe()).with_name("pg_ctl")
        self.options = shlex.join(shlex.split((data / "postmaster.opts").read_text())[1:])

    def control(self, *arguments: str) -> None:
        subprocess.run(
            [str(self._pg_ctl), "-D", str(self._data), "-w", "-l", f"{self._data}/log", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
            # Postgres refuses to run as root: it runs as the owner of its data.
            # With root's groups, the folders above would be closed to it.
            **self._account(),
        )

    def _account(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        owner = self._data.stat()
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
