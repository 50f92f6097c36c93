"""The README and the site of docs/ agree with the code. Generated pages need no comparison."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from infra import list_indent, reference
from openreserve.http.problems import STATUSES, UNHANDLED
from openreserve.http.routes import ROUTES
from openreserve.runtime.settings import Settings
from openreserve.runtime.telemetry import METRICS
from tests.integration.test_settle import CELLS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PACKAGE = ROOT / "layers/openreserve/openreserve"
NAV = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
OUTSIDE_THE_SITE = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/guarantees.md"])
def test_every_test_that_a_guarantee_names_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / page).read_text()))
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(named) >= 7
    assert {name for name in named if f"def {name}(" not in source} == set()


def test_the_readme_repeats_guarantees_of_the_docs() -> None:
    guarantees = (DOCS / "explanation/guarantees.md").read_text()

    assert set(re.findall(r"`(test_\w+)`", README)) <= set(re.findall(r"`(test_\w+)`", guarantees))


def test_the_documented_state_matrix_is_the_tested_one() -> None:
    page = (DOCS / "reference/states.md").read_text()
    states = ["HELD live", "HELD past", "EXPIRED", "RELEASED", "COMMITTED", "CANCELLED"]
    verbs = {"commit": "commit", "commit, reacquire": "reacquire", "release": "release"}
    tested = {(verb.__name__, state): (status, word) for verb, state, status, word in CELLS}
    rows = re.findall(r"^\| (commit|commit, reacquire|release) \| (.*) \|$", page, re.MULTILINE)

    assert [verb for verb, _ in rows] == list(verbs)
    for verb, cells in rows:
        for state, cell in zip(states, cells.split(" | "), strict=True):
            status, word = tested[verbs[verb], state]
            assert cell.startswith(str(status)), (verb, state)
            if status == 200 and "same body" not in cell:
                assert word in cell, (verb, state)


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert set(re.findall(r"[\w/-]+\.md", NAV)) == pages | reference.PAGES.keys()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """A link to a page, heading or image that does not exist is a warning."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        timeout=120,
        check=False,
    )

    assert built.returncode == 0, built.stderr
    assert (tmp_path / "explanation/architecture.html").exists()


def test_lists_are_read_as_github_reads_them() -> None:
    read = list_indent.on_page_markdown

    assert read("1. a\n\n   ```sh\n     b\n   ```") == "1. a\n\n    ```sh\n      b\n    ```"
    assert read("- a\n  b\n\nc\n  d") == "- a\n    b\n\nc\n  d"
    assert read("```\n- a\n  b\n```") == "```\n- a\n  b\n```"


@pytest.mark.parametrize("page", OUTSIDE_THE_SITE)
def test_links_of_pages_outside_the_site_lead_to_files(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", (ROOT / page).read_text()):
        assert (ROOT / link).exists(), link


def test_the_generated_pages_have_every_setting_code_route_and_metric() -> None:
    pages = {path: "\n".join(lines()) for path, lines in reference.PAGES.items()}

    for variable in Settings.__dataclass_fields__:
        assert f"| `{variable.upper()}` |" in pages["reference/settings.md"]
    for status, code in (*STATUSES.values(), UNHANDLED):
        assert f"| {status} | `{code}` |" in pages["reference/errors.md"]
    for route in ROUTES:
        assert f"| `{route.method} {route.path}` |" in pages["reference/api.md"]
    for metric in METRICS:
        assert f"| `{metric}` |" in pages["reference/metrics.md"]


def test_the_walk_of_quantity_names_the_lines_that_have_it() -> None:
    page = (DOCS / "explanation/architecture.md").read_text()
    walk = page.partition("<!-- walk -->")[2].partition("<!-- end -->")[0]
    steps = re.findall(r"^\| `([\w/.]+):(\d+)` \| `(.*?)` \|", walk, re.MULTILINE)

    assert len(steps) >= 12
    for path, number, code in steps:
        lines = (PACKAGE / path).read_text().splitlines()
        present = [n for n, line in enumerate(lines, 1) if code in line]
        assert re.search(r"quantity|quantities|available_stock", code), code
        assert int(number) in present, (path, code, present)


def test_the_diagram_of_the_rooms_has_the_arrows_of_the_contract() -> None:
    page = (DOCS / "explanation/architecture.md").read_text()
    diagram = page.partition("flowchart TD")[2].partition("```")[0]
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", diagram, re.MULTILINE))
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (
        each["layers"]
        for each in contract["contracts"]
        if each["name"] == "Dependencies point inwards"
    )
    rooms = [re.findall(r"openreserve\.(\w+)", layer) for layer in layers]

    assert drawn == {
        (upper, lower) for above, below in pairwise(rooms) for upper in above for lower in below
    }


def test_the_layout_names_files_that_exist() -> None:
    page = (DOCS / "explanation/architecture.md").read_text()
    tree = page.partition("## The tree")[2].partition("```text")[2].partition("```")[0]
    folders: list[str] = []
    for indent, path in re.findall(r"^( *)([a-z][\w./]*)", tree, re.MULTILINE):
        folders = [*folders[: len(indent) // 4], path]
        assert (ROOT / "".join(folders)).exists(), path
