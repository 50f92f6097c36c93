"""What it saves at a start that `sam build` compiles the layers."""

import os
import platform
import resource
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.e2e.building import Built, build, installed_python_of_lambda

Report = Callable[[str, Callable[[], float], Callable[[], float]], None]

HERE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def start(report: Report) -> None:
    """The import of reserve from the layers as built, to that of their sources."""
    python = installed_python_of_lambda()
    if python is None:
        print("      -  import of the reserve handler as built: needs python3.13")
        return
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), HERE)
        report(
            "CPU of an import of the reserve handler as built, to that of its sources",
            lambda: _cpu_seconds(python, built),
            lambda: _cpu_seconds(python, built, PYTHONPYCACHEPREFIX=f"{folder}/nothing"),
        )


def _cpu_seconds(python: Path, built: Built, **variables: str) -> float:
    path = (built.folder / "ReserveFunction", *(layer / "python" for layer in built.layers))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [python, "-S", "-s", "-c", "import app"],
        env={
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        },
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
