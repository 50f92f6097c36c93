"""Parameter overrides of a deployment, and a hash of its code and settings.

SAM publishes a new version of a function only if the template changes. The hash changes it for
a new setting and for a new value in Parameter Store, which SAM does not read.
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
NAMES_PER_CALL = 10
"""The limit of GetParameters."""


class SettingsError(Exception):
    """The settings of a deployment could not be read. The text is the reason in one line."""


def overrides(config: Mapping[str, Any], section: str) -> dict[str, str]:
    """The `parameter_overrides` of a section of samconfig.toml."""
    options: list[str] = config[section]["deploy"]["parameters"].get("parameter_overrides", [])
    return dict(text.split("=", 1) for text in options)


def options(overrides: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides as `sam deploy --parameter-overrides` reads them."""
    return tuple(f'{name}="{_escaped(value)}"' for name, value in overrides.items())


def fingerprint(built: Path, overrides: Mapping[str, str], stored: Mapping[str, str]) -> str:
    """The SHA-256 of the output of `sam build`, the overrides and the values of Parameter Store.

    Compiled files are excluded: they derive from the sources, and tests write some, too.

    Raises:
        SettingsError: nothing was built.
    """
    files = sorted(path for path in built.rglob("*") if path.is_file() and path.suffix != ".pyc")
    if not files:
        raise SettingsError(f"{built} is empty: run sam build")
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"file {path.relative_to(built)} {content}\n".encode())
    for kind, values in (("override", overrides), ("stored", stored)):
        for name, value in sorted(values.items()):
            digest.update(f"{kind} {name} {len(value)} {value}\n".encode())
    return digest.hexdigest()


def names_in_store(template: Path, overrides: Mapping[str, str]) -> list[str]:
    """The names in Parameter Store whose values the template reads."""
    document = yaml.load(template.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
    return sorted(
        str(overrides.get(name, facts.get("Default")))
        for name, facts in document["Parameters"].items()
        if str(facts["Type"]).startswith("AWS::SSM::Parameter::Value<")
    )


def stored_values(names: Sequence[str], region: str) -> dict[str, str]:
    """The values of these names in Parameter Store.

    Raises:
        SettingsError: Parameter Store could not be read, or lacks one of the names.
    """
    store = boto3.client("ssm", region_name=region)
    values: dict[str, str] = {}
    missing: list[str] = []
    try:
        for batch in _batches(names):
            response = store.get_parameters(Names=list(batch))
            values |= {each["Name"]: each["Value"] for each in response["Parameters"]}
            missing += response["InvalidParameters"]
    except (BotoCoreError, ClientError) as error:
        raise SettingsError(f"could not read Parameter Store: {error}") from None
    if missing:
        raise SettingsError(f"Parameter Store has no {', '.join(missing)}")
    return values


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_PER_CALL):
        yield names[start : start + NAMES_PER_CALL]


def _escaped(value: str) -> str:
    return value.replace('"', '\\"')
