"""Memory usage of the processes of a local runtime."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.e2e.runtime import Runtime


def megabytes(runtime: Runtime) -> dict[str, float]:
    """Proportional set size by kind of process. It counts shared pages only once."""
    sizes: dict[str, float] = {}
    for kind, process in _processes(runtime):
        with suppress(psutil.NoSuchProcess):
            sizes[kind] = sizes.get(kind, 0.0) + process.memory_full_info().pss / 2**20
    return sizes


def _processes(runtime: Runtime) -> Iterator[tuple[str, psutil.Process]]:
    gateway = psutil.Process(runtime.process.pid)
    yield "gateway", gateway
    servers = {_pid(runtime.state / "redis.pid"): "Redis"}
    servers[_pid(runtime.state / "postgres" / "postmaster.pid")] = "Postgres"
    for child in gateway.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "AWS_LAMBDA_FUNCTION_NAME" in child.environ():
                yield "functions", child
            elif "moto_server" in " ".join(child.cmdline()):
                yield "SQS", child
    for pid, kind in servers.items():
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(pid)
            for process in (server, *server.children()):
                yield kind, process


def _pid(file: Path) -> int:
    """The PID in the first line. 0, which is no process, without a file."""
    try:
        return int(file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return 0
