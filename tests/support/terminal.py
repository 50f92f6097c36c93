"""Runs the command line with its output in a pipe or in a pseudo-terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "openreserve_client.cli")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def in_a_pipe(
    *arguments: str, variables: Mapping[str, str] | None = None, folder: Path | None = None
) -> Said:
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(variables),
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def in_a_terminal(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    typed: Sequence[tuple[str, bytes]] = (),
    folder: Path | None = None,
) -> Said:
    """Run it in a pseudo-terminal. `typed`: texts to wait for, and the keys to press after each."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder or Path.cwd())
        os.execve(COMMAND[0], [*COMMAND, *arguments], environment(variables))  # noqa: S606
    out, waiting, end = b"", list(typed), time.monotonic() + 120
    while True:
        assert time.monotonic() < end, out.decode()
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the other side was closed
            part = b""
        if not part:
            break
        out += part
        if waiting and waiting[0][0].encode() in out:
            os.write(terminal, waiting.pop(0)[1])
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Said(os.waitstatus_to_exitcode(status), out.decode().replace("\r\n", "\n"))


def environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    """The environment without variables that change the output."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OPENRESERVE_") and name != "NO_COLOR"
    }
    return kept | {"TERM": "xterm", "COLUMNS": "100", **(variables or {})}


def plain(text: str) -> str:
    """The text without ANSI escape sequences."""
    return re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", text)
