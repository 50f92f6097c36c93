"""Runs `sam build` without Docker for either processor, and locates its output."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from infra.local.template import model
from infra.local.template.model import Function
from tests.e2e.runtime import ROOT

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
"""The processors of Lambda, and their names in wheels."""


@dataclass(frozen=True)
class Built:
    """The output of `sam build`."""

    processor: str
    source: Path
    """The copy of the sources that was built."""

    @property
    def folder(self) -> Path:
        return self.source / ".aws-sam/build"

    @property
    def layers(self) -> list[Path]:
        return [self.folder / name for name in ("OpenReserveLayer", "DependenciesLayer")]

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        parameters = {"DatabaseUrl": "-", "MigrationUrl": "-"}
        return model.load(self.source / "template.yaml", parameters).functions


def python_of_lambda() -> Path:
    """The path of python3.13; the test is skipped without it."""
    python = installed_python_of_lambda()
    if python is None:
        pytest.skip("sam build needs python3.13")
    return python


def installed_python_of_lambda() -> Path | None:
    """The path of a python3.13 that runs; the shim of a version manager may not."""
    for python in _candidates():
        if subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("python3.13")
    if on_path:
        yield Path(on_path)
    yield from Path.home().glob(".pyenv/versions/3.13*/bin/python3.13")


def build(source: Path, processor: str) -> Built:
    """Build a copy of the sources: concurrent tests create temporary files in the originals."""
    python = python_of_lambda()
    text = (ROOT / "template.yaml").read_text()
    assert "arm64" in text
    (source / "template.yaml").write_text(text.replace("arm64", processor))
    for folder in ("functions", "layers"):
        shutil.copytree(
            ROOT / folder,
            source / folder,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    done = subprocess.run(
        [Path(sys.executable).with_name("sam"), "build"],
        cwd=source,
        env=os.environ
        | {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "ARCHITECTURE": MACHINES[processor],
            "SAM_CLI_TELEMETRY": "0",
            "PIP_RETRIES": "10",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(processor, source)
