"""The tools that check the OpenAPI document; `make check-openapi` installs them."""

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
    """The path of a program from npm."""
    return installed(NODE / "node_modules/.bin" / name, config)


def installed(program: Path, config: pytest.Config) -> Path:
    """The path of the program. Without it the test skips, or fails with --require-openapi-tools."""
    if not program.exists():
        refuse = pytest.fail if config.getoption("--require-openapi-tools") else pytest.skip
        refuse(f"{program.name} is not installed: {NOT_INSTALLED}")
    return program


def output_of(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program and return its output. If it fails, the error contains the output."""
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
