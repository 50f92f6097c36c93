"""The calls of the README, the tutorial and the webhook guide return what these pages show."""

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
CALL = re.compile(r"```sh\n(curl .*?)```(?:\s*```json\n(.*?)\n```)?", re.DOTALL)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime


def run(runtime: Runtime, command: str, token: str = SHOWN_TOKEN) -> Any:
    """The answer to a command of the README, sent by curl to the runtime under test."""
    uuidgen = f"uuidgen() {{ {sys.executable} -c 'import uuid; print(uuid.uuid4())'; }}"
    command = command.replace("http://localhost:8080", runtime.url).replace(SHOWN_TOKEN, token)
    printed = subprocess.run(
        ["bash", "-c", f"{uuidgen}\n{command.replace('curl', 'curl -s', 1)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(printed.stdout)


def shape(document: Any) -> Any:
    """The fields of an answer, in their order, and those of its values that do not vary."""
    varying = {"token", "expiresAt", "updatedAt", "secret"}
    return [(key, key if key in varying else value) for key, value in document.items()]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_calls_of_the_readme_answer_as_it_says(runtime: Runtime) -> None:
    calls = CALL.findall(README)
    (create, created), (hold, held), (commit, committed), (release, _), (read, _) = calls

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
def test_the_endpoint_of_the_webhook_guide_can_be_created(runtime: Runtime) -> None:
    ((save, saved),) = CALL.findall((ROOT / "docs/how-to/webhooks.md").read_text())

    assert shape(run(runtime, save)) == shape(json.loads(saved))


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_calls_of_the_tutorial_return_what_it_describes(runtime: Runtime) -> None:
    (create, _), (hold, _), (commit, _) = CALL.findall((ROOT / "docs/tutorial.md").read_text())

    assert run(runtime, create)["availableStock"] == 3
    held = run(runtime, hold)
    assert held["status"] == "HELD"
    assert run(runtime, hold) == held
    other = run(runtime, hold.replace("order-1001", "order-1002"))
    assert (other["code"], other["items"][0]["available"]) == ("out_of_stock", 1)
    assert run(runtime, commit, held["token"])["status"] == "COMMITTED"


def test_the_start_says_what_the_readme_shows(runtime: Runtime) -> None:
    shown = README.partition("$ make run\n")[2].partition("\n```")[0].splitlines()
    said = [line for line in runtime.lines if line]

    for promised, line in zip(shown, said, strict=False):
        assert _without_numbers(promised) == _without_numbers(line)


def _without_numbers(line: str) -> str:
    line = re.sub(r"http://[\w.]+:\d+", "URL", line)
    line = re.sub(r"(Redis|Valkey) (?=\d)", "Redis ", line)  # what is installed goes first
    return re.sub(r"\d+", "N", line).replace("N.N.N", "N").replace("N.N", "N").replace(".N", "")
