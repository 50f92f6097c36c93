"""Ends child processes, including those that a killed runtime left behind."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

LINE_BYTES_MAX = 1 << 20
"""Maximum length of an output line: a traceback in one JSON document."""


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and its children, which share its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def stop_leftover(pid_file: Path, mark: str) -> None:
    """Stop a server that a killed runtime left running.

    `mark` is a part of its command line: another process may have its PID by now.
    """
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text()))
        if any(mark in part for part in process.cmdline()):
            process.kill()
