"""The README matches the code."""

import re
from dataclasses import fields
from pathlib import Path

from openreserve.http.problems import STATUSES, UNHANDLED
from openreserve.http.routes import ROUTES
from openreserve.runtime.settings import Settings
from tests.integration.test_settle import CELLS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_has_every_route() -> None:
    table = README.partition("## The API")[2].partition("## What it guarantees")[0]
    called = set(re.findall(r"`(GET|POST|DELETE) (/[\w/{}-]*)", table))

    assert called == {
        (method, path.removeprefix("/api/v1"))
        for path, methods in ROUTES.items()
        for method in methods
    }


def test_the_readme_has_every_code_with_its_status() -> None:
    for status, code in [*STATUSES.values(), UNHANDLED]:
        before = README.partition(f"`{code}`")[0]
        assert f"`{code}`" in README, code
        statuses = re.findall(r"\b([45]\d\d)\b(?!-)", before[-260:])
        assert statuses[-1] == str(status), code


def test_the_readme_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| *([\w,/]*) *\|", README, re.MULTILINE))
    defaults = {
        setting.name.upper(): "" if setting.default == "" else str(setting.default)
        for setting in fields(Settings)
    }

    assert rows == defaults | {"REDIS_URL": "none"}


def test_every_test_that_the_readme_names_exists() -> None:
    table = README.partition("## What it guarantees")[2].partition("## Limits")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(named) >= 10
    for name in named:
        assert f"def {name}(" in source, name


def test_the_documented_state_matrix_is_the_tested_one() -> None:
    states = ["HELD live", "HELD past", "EXPIRED", "RELEASED", "COMMITTED", "CANCELLED"]
    verbs = {"commit": "commit", "commit, reacquire": "reacquire", "release": "release"}
    tested = {(verb.__name__, state): (status, word) for verb, state, status, word in CELLS}
    rows = re.findall(r"^\| (commit|commit, reacquire|release) \| (.*) \|$", README, re.MULTILINE)

    assert [verb for verb, _ in rows] == list(verbs)
    for verb, cells in rows:
        for state, cell in zip(states, cells.split(" | "), strict=True):
            status, word = tested[verbs[verb], state]
            assert cell.startswith(str(status)), (verb, state)
            if status == 200 and "same body" not in cell:
                assert word in cell, (verb, state)


def test_the_layout_names_existing_folders() -> None:
    layout = README.partition("## How it is laid out")[2].partition("```")[2].partition("```")[0]
    for path in re.findall(r"^([a-z][\w./]*)", layout, re.MULTILINE):
        assert (ROOT / path.rstrip("/,")).exists(), path
