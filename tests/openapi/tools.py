"""The programs that judge the OpenAPI document, where `make check-openapi` installed them."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = Path(__file__).parent
DOCUMENT = ROOT / "infra/openapi.json"
NODE = ROOT / "build/openapi"
PYTHON_TOOLS = ROOT / ".venv/openapi/bin"
NOT_INSTALLED = "make check-openapi installs it"


def node_tool(name: str, config: pytest.Config) -> Path:
    """A program from npm."""
    return installed(NODE / "node_modules/.bin" / name, config)


def installed(program: Path, config: pytest.Config) -> Path:
    """The program; the test is skipped without it, or fails if the tools are required."""
    if not program.exists():
        refuse = pytest.fail if config.getoption("--require-openapi-tools") else pytest.skip
        refuse(f"{program.name} is not installed: {NOT_INSTALLED}")
    return program


def output_of(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a program says that succeeds. What it says when it fails is in the error."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
