"""samconfig.toml: each stage has all stacks, which read the parameters of the same stage."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deploy.__main__ import DATA
from infra.local.template.intrinsics import Loader

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = tomllib.loads((ROOT / "samconfig.toml").read_text())
STAGES = ("dev", "staging", "prod")
STACKS = [(stage, name) for stage in STAGES for name in ("", *DATA)]


def section(stage: str, name: str) -> dict[str, Any]:
    parameters: dict[str, Any] = CONFIG[f"{stage}-{name}" if name else stage]["deploy"][
        "parameters"
    ]
    return parameters


def overrides(stage: str, name: str) -> dict[str, str]:
    return dict(text.split("=", 1) for text in section(stage, name)["parameter_overrides"])


def declared(name: str) -> dict[str, dict[str, Any]]:
    """The parameters of a stack's template."""
    file = ROOT / (f"infra/{name}.yaml" if name else "template.yaml")
    document = yaml.load(file.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
    parameters: dict[str, dict[str, Any]] = document["Parameters"]
    return parameters


@pytest.mark.parametrize(("stage", "name"), STACKS)
def test_every_stack_has_the_name_and_the_region_of_its_stage(stage: str, name: str) -> None:
    of_the_app = CONFIG[stage]["global"]["parameters"]
    parameters = section(stage, name) if name else of_the_app | section(stage, name)

    assert parameters["stack_name"] == f"openreserve-{stage}" + (f"-{name}" if name else "")
    assert parameters["region"] == of_the_app["region"]
    assert parameters["resolve_s3"]
    assert parameters["confirm_changeset"] == (stage == "prod")
    assert parameters.get("template_file") == (f"infra/{name}.yaml" if name else None)


@pytest.mark.parametrize(("stage", "name"), STACKS)
def test_every_parameter_store_name_of_a_stack_belongs_to_its_own_stage(
    stage: str, name: str
) -> None:
    """A missing override would use the default, so prod would use the database of dev."""
    given = overrides(stage, name)
    for parameter, facts in declared(name).items():
        if not str(facts["Type"]).startswith("AWS::SSM::Parameter::Value<"):
            continue
        of_dev = facts["Default"]
        assert of_dev.startswith("/openreserve/dev/"), parameter
        of_stage = of_dev.replace("/dev/", f"/{stage}/", 1)
        assert given.get(parameter, of_dev) == of_stage, parameter

    for text in given.values():
        assert not text.startswith("/openreserve/") or text.startswith(f"/openreserve/{stage}/")


@pytest.mark.parametrize("name", DATA)
def test_every_override_is_a_parameter_of_its_template(name: str) -> None:
    known = declared(name)
    for stage in STAGES:
        for parameter, value in overrides(stage, name).items():
            assert parameter in known, parameter
            pattern = known[parameter].get("AllowedPattern")
            assert pattern is None or re.fullmatch(pattern, value)


def test_every_override_of_the_app_is_a_parameter_of_the_template() -> None:
    known = declared("")
    for stage in STAGES:
        for parameter, value in overrides(stage, "").items():
            assert parameter in known, parameter
            allowed = known[parameter].get("AllowedValues")
            assert allowed is None or value in map(str, allowed)


def test_stages_have_their_own_metrics_and_prod_deploys_gradually() -> None:
    services = [overrides(stage, "")["ServiceName"] for stage in STAGES]

    assert services == ["openreserve-dev", "openreserve-staging", "openreserve-prod"]
    assert overrides("prod", "")["DeploymentType"].startswith("Canary")
    kept_days = [int(overrides(stage, "")["LogRetentionDays"]) for stage in STAGES]
    assert kept_days == sorted(kept_days)
