"""`make` reports a missing requirement in one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("import sys; sys.version_info = (3, 10, 9)", "OpenReserve needs Python 3.11 or newer: "),
        ("import sys; sys.modules['ensurepip'] = None", "OpenReserve needs Python's venv module "),
    ],
)
def test_an_unsuitable_python_is_rejected_in_one_line(
    tmp_path: Path, lacking: str, message: str
) -> None:
    files = ("Makefile", "pyproject.toml", "clients/python/pyproject.toml")
    for name in (*files, "infra/local/requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "sitecustomize.py").write_text(lacking)

    ran = subprocess.run(
        ["make", "run", f"PYTHON=env PYTHONPATH={tmp_path} {sys.executable}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    (line, *of_make) = ran.stderr.splitlines()
    assert ran.returncode == 2
    assert line.startswith(message)
    # Under another make, as in `make test-bare`, the lines have its level: make[1].
    assert all(re.match(r"make(\[\d+\])?: \*\*\*", line) for line in of_make)
    assert not (tmp_path / ".venv").exists()
