"""The examples of the README run, and return the documented responses."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.runtime import ROOT, Runtime, started

README = (ROOT / "README.md").read_text()
SHOWN_TOKEN = "550e8400-e29b-41d4-a716-446655440000"
CALLS = re.findall(r"```sh\n(curl .*?)```(?:\s*```json\n(.*?)\n```)?", README, re.DOTALL)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime


def run(runtime: Runtime, command: str, token: str = SHOWN_TOKEN) -> Any:
    """Run a curl command of the README against the runtime under test, and return the response."""
    uuidgen = f"uuidgen() {{ {sys.executable} -c 'import uuid; print(uuid.uuid4())'; }}"
    command = command.replace("http://localhost:8080", runtime.url).replace(SHOWN_TOKEN, token)
    completed = subprocess.run(
        ["bash", "-c", f"{uuidgen}\n{command.replace('curl', 'curl -s', 1)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(completed.stdout)


def shape(document: Any) -> Any:
    """The fields of a response in their order, with the values that do not vary."""
    varying = {"token", "expiresAt", "updatedAt", "secret"}
    return [(key, key if key in varying else value) for key, value in document.items()]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_examples_of_the_readme_return_the_documented_responses(runtime: Runtime) -> None:
    (create, created), (hold, held), (commit, committed), (release, _), (read, _), _ = CALLS

    assert shape(run(runtime, create)) == shape(json.loads(created))
    first = run(runtime, hold)
    assert shape(first) == shape(json.loads(held))
    assert shape(run(runtime, commit, first["token"])) == shape(json.loads(committed))
    second = run(runtime, hold)
    released = run(runtime, release, second["token"])
    assert shape(released) == shape(json.loads(held) | {"status": "RELEASED"})
    stock = run(runtime, read)
    assert (stock["availableStock"], stock["committedStock"]) == (49, 1)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_webhook_example_of_the_readme_creates_an_endpoint(runtime: Runtime) -> None:
    save, saved = CALLS[-1]

    assert shape(run(runtime, save)) == shape(json.loads(saved))


def test_the_runtime_prints_the_start_message_of_the_readme(runtime: Runtime) -> None:
    shown = README.partition("$ make run\n")[2].partition("\n```")[0].splitlines()
    said = [line for line in runtime.lines if line]

    for promised, line in zip(shown, said, strict=False):
        assert _without_numbers(promised) == _without_numbers(line)


def _without_numbers(line: str) -> str:
    line = re.sub(r"http://[\w.]+:\d+", "URL", line)
    line = re.sub(r"(Redis|Valkey) (?=\d)", "Redis ", line)  # an installed Redis is preferred
    return re.sub(r"\d+", "N", line).replace("N.N.N", "N").replace("N.N", "N").replace(".N", "")
