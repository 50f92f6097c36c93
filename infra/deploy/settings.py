"""What a stage is deployed with: the overrides of samconfig.toml, and a hash of all that it runs.

SAM publishes a new version of a function only when the template says something new. The hash says
so for a setting, and for a value in Parameter Store, which SAM never sees.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.template.intrinsics import Loader

HASH = "DeploymentHash"
"""The parameter of template.yaml that publishes new versions."""
NAMES_AT_A_TIME = 10
"""All that GetParameters takes."""


class Unknown(Exception):
    """What the functions would be deployed with is not known: the text says why, in one line."""


def overrides(config: Mapping[str, Any], section: str) -> dict[str, str]:
    """The `parameter_overrides` of a section of samconfig.toml."""
    given: list[str] = config[section]["deploy"]["parameters"].get("parameter_overrides", [])
    return dict(text.split("=", 1) for text in given)


def options(given: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides as `sam deploy --parameter-overrides` reads them."""
    return tuple(f'{name}="{_escaped(value)}"' for name, value in given.items())


def fingerprint(built: Path, given: Mapping[str, str], stored: Mapping[str, str]) -> str:
    """The SHA-256 of what `sam build` made, of the overrides and of what Parameter Store has.

    Compiled files are left out: they follow from the sources, and tests leave some of their own.

    Raises:
        Unknown: nothing was built.
    """
    files = sorted(path for path in built.rglob("*") if path.is_file() and path.suffix != ".pyc")
    if not files:
        raise Unknown(f"there is nothing in {built}: run sam build")
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"file {path.relative_to(built)} {content}\n".encode())
    for kind, values in (("override", given), ("stored", stored)):
        for name, value in sorted(values.items()):
            digest.update(f"{kind} {name} {len(value)} {value}\n".encode())
    return digest.hexdigest()


def names_in_store(template: Path, given: Mapping[str, str]) -> list[str]:
    """The names in Parameter Store whose values the template reads."""
    document = yaml.load(template.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
    return sorted(
        str(given.get(name, facts.get("Default")))
        for name, facts in document["Parameters"].items()
        if str(facts["Type"]).startswith("AWS::SSM::Parameter::Value<")
    )


def stored_values(names: Sequence[str], region: str) -> dict[str, str]:
    """The values that CloudFormation will find under the names.

    Raises:
        Unknown: Parameter Store did not answer, or has no such name.
    """
    store = boto3.client("ssm", region_name=region)
    found: dict[str, str] = {}
    missing: list[str] = []
    try:
        for some in _parts(names):
            answer = store.get_parameters(Names=list(some))
            found |= {each["Name"]: each["Value"] for each in answer["Parameters"]}
            missing += answer["InvalidParameters"]
    except (BotoCoreError, ClientError) as refused:
        raise Unknown(f"Parameter Store was not read: {refused}") from None
    if missing:
        raise Unknown(f"Parameter Store has no {', '.join(missing)}")
    return found


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_AT_A_TIME):
        yield names[start : start + NAMES_AT_A_TIME]


def _escaped(value: str) -> str:
    return value.replace('"', '\\"')
