"""A program in TypeScript, with types generated from the OpenAPI document, compiles and works."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.runtime import Runtime
from tests.openapi.tools import DOCUMENT, FILES, NODE, node_tool, output_of


@pytest.fixture
def program(pytestconfig: pytest.Config) -> Path:
    """The folder with the program and the generated types, below the installed packages."""
    folder = NODE / "client"
    generator = node_tool("openapi-typescript", pytestconfig)
    folder.mkdir(exist_ok=True)
    for name in ("shop.ts", "tsconfig.json"):
        shutil.copy(FILES / name, folder)
    output_of(generator, DOCUMENT, "--output", folder / "schema.d.ts")
    return folder


def test_a_shop_in_typescript_reserves_commits_releases_and_lists(
    program: Path, runtime: Runtime, name: str, pytestconfig: pytest.Config
) -> None:
    output_of(node_tool("tsc", pytestconfig), "--project", program)

    said = output_of("node", program / "shop.js", runtime.url, name)

    assert json.loads(said) == {
        "settled": ["HELD", "COMMITTED", "RELEASED", "already_released"],
        "shortage": "9 of 1",
        "resources": 1,
        "committed": 1,
        "available": 1,
    }
