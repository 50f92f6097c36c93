"""A program in TypeScript, with types generated from the OpenAPI document, compiles and works."""

import json
import shutil
from pathlib import Path

import pytest

from infra import openapi
from tests.e2e.runtime import Runtime
from tests.openapi.tools import DOCUMENT, FILES, NODE, PYTHON_TOOLS, installed, node_tool, output_of

STRICT = {
    "strict": True,
    "noEmit": True,
    "skipLibCheck": False,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom"],
    "types": [],
}


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


@pytest.mark.slow
def test_the_client_of_openapi_generator_compiles(pytestconfig: pytest.Config) -> None:
    generator = installed(PYTHON_TOOLS / "openapi-generator-cli", pytestconfig)
    if shutil.which("java") is None:
        pytest.skip("openapi-generator needs java")
    compiler, folder = node_tool("tsc", pytestconfig), NODE / "fetch"
    shutil.rmtree(folder, ignore_errors=True)

    assert "errors" not in output_of(generator, "validate", "-i", DOCUMENT)
    # The class that it generates for webhooks does not compile; no caller needs it.
    apis = ":".join(name.title().replace(" ", "") for name in openapi.TAGS if name != "Deliveries")
    said = output_of(
        *(generator, "generate", "-i", DOCUMENT, "-g", "typescript-fetch", "-o", folder),
        *("--global-property", f"models,supportingFiles,apis={apis}"),
    )
    assert "FILEPATH_COLLISION" not in said
    config = {"compilerOptions": STRICT, "include": ["**/*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(config))

    output_of(compiler, "--project", folder)


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
