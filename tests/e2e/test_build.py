"""What `sam build` makes for AWS, without Docker: every file that the functions need is in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import template
from tests.e2e.runtime import ROOT

LAYERS_UNZIPPED_MB_MAX = 250
"""Lambda's limit for a function with its layers."""


def python_of_lambda() -> Path | None:
    """A folder with a python3.13 that works; a shim of a version manager may not."""
    on_path = shutil.which("python3.13")
    found = [Path(on_path)] if on_path else []
    found += Path.home().glob(".pyenv/versions/3.13*/bin/python3.13")
    for python in found:
        if subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0:
            return python.parent
    return None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = python_of_lambda()
    if python is None:
        pytest.skip("sam build needs python3.13")
    # From a copy: other tests run beside this one, and their interpreters leave files for a moment.
    source = tmp_path_factory.mktemp("source")
    shutil.copy(ROOT / "template.yaml", source)
    for folder in ("functions", "layers"):
        shutil.copytree(
            ROOT / folder,
            source / folder,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    built = subprocess.run(
        [Path(sys.executable).with_name("sam"), "build"],
        cwd=source,
        env=os.environ
        | {
            "PATH": f"{python}:{os.environ['PATH']}",
            "SAM_CLI_TELEMETRY": "0",
            "PIP_RETRIES": "10",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return source / ".aws-sam/build"


def test_each_function_is_built_with_its_handler_alone(built: Path) -> None:
    parameters = {"DatabaseUrl": "-", "MigrationUrl": "-"}
    for function in template.load(ROOT / "template.yaml", parameters).functions:
        files = [path.name for path in (built / function.name).iterdir() if path.is_file()]
        assert files == ["app.py"], function.name


def test_our_layer_has_the_package_with_its_sql(built: Path) -> None:
    source = ROOT / "layers/openreserve/openreserve"
    layer = built / "OpenReserveLayer/python/openreserve"

    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (layer / path.relative_to(source)).read_bytes() == path.read_bytes()


def test_the_dependencies_are_those_of_the_processor_that_lambda_has(built: Path) -> None:
    layer = built / "DependenciesLayer/python"
    libraries = [path.name for path in layer.rglob("*.cpython-*.so")]

    assert {"psycopg_binary", "pydantic_core", "redis", "aws_lambda_powertools"} <= {
        path.name for path in layer.iterdir()
    }
    assert libraries
    assert all("cpython-313-aarch64" in library for library in libraries), libraries


def test_what_is_built_fits_into_lambda(built: Path) -> None:
    layers = [built / "OpenReserveLayer", built / "DependenciesLayer"]
    size = sum(path.stat().st_size for layer in layers for path in layer.rglob("*"))

    assert size < LAYERS_UNZIPPED_MB_MAX * 10**6 / 4, "a start reads all of it"
