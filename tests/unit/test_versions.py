"""A deployment publishes a new version of every function that a change affects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType

from infra.deploy import settings
from tests.support.sam_transform import Change, transformed

LAYERS = ("OpenReserveLayer", "DependenciesLayer")


def versions(parameters: Mapping[str, str] | None = None, change: Change = lambda _: None) -> Any:
    """The logical id of the version of each function; CloudFormation publishes new ids."""
    resources = transformed(parameters, change)["Resources"]
    return {
        facts["Properties"]["FunctionName"]["Ref"]: name
        for name, facts in resources.items()
        if facts["Type"] == "AWS::Lambda::Version"
    }


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {function for function in one if one[function] != other[function]}


def uploaded(name: str, key: str) -> Change:
    """The template of `sam deploy`: the name of an uploaded archive is the hash of its content."""

    def change(document: dict[str, Any]) -> None:
        properties = document["Resources"][name]["Properties"]
        place = "CodeUri" if "CodeUri" in properties else "ContentUri"
        properties[place] = f"s3://bucket/{key}"

    return change


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "OpenReserveLayer").mkdir()
    (tmp_path / "OpenReserveLayer/api.py").write_text("VERSION = 1")
    (tmp_path / "template.yaml").write_text("Resources: {}")
    return tmp_path


@pytest.mark.parametrize("layer", LAYERS)
def test_new_code_of_a_layer_publishes_all_nine_functions(layer: str) -> None:
    before, after = (versions(change=uploaded(layer, key)) for key in ("one", "two"))

    assert len(before) == 9
    assert changed(before, after) == before.keys()


def test_new_code_of_a_function_publishes_only_that_function() -> None:
    before, after = (versions(change=uploaded("ReserveFunction", key)) for key in ("one", "two"))

    assert changed(before, after) == {"ReserveFunction"}


def test_unchanged_code_and_settings_publish_nothing(built: Path) -> None:
    given = {"ItemsMax": "20"}
    hashes = [settings.fingerprint(built, given, {"/a": "b"}) for _ in range(2)]
    before, after = (versions(given | {settings.HASH: text}) for text in hashes)

    assert changed(before, after) == set()


def test_a_changed_parameter_without_a_hash_publishes_nothing() -> None:
    """The reason for the hash: SAM compares `!Ref ItemsMax` with `!Ref ItemsMax`."""
    assert changed(versions({"ItemsMax": "20"}), versions({"ItemsMax": "30"})) == set()


def test_a_changed_parameter_publishes_all_nine_functions(built: Path) -> None:
    before, after = (
        versions(given | {settings.HASH: settings.fingerprint(built, given, {})})
        for given in ({"ItemsMax": "20"}, {"ItemsMax": "30"})
    )

    assert len(before) == 9
    assert changed(before, after) == before.keys()


def test_a_changed_value_in_parameter_store_publishes_all_nine_functions(
    built: Path,
) -> None:
    """As after a restore, when the functions must connect to the new cluster."""
    name = "/openreserve/dev/database/host"
    before, after = (
        versions({settings.HASH: settings.fingerprint(built, {}, {name: host})})
        for host in ("old.example", "new.example")
    )

    assert changed(before, after) == before.keys()


def test_each_change_of_the_build_changes_the_hash(built: Path) -> None:
    hashes = [settings.fingerprint(built, {}, {})]
    (built / "OpenReserveLayer/api.py").write_text("VERSION = 2")
    hashes.append(settings.fingerprint(built, {}, {}))
    (built / "OpenReserveLayer/api.py").rename(built / "OpenReserveLayer/app.py")
    hashes.append(settings.fingerprint(built, {}, {}))

    assert len(set(hashes)) == 3


def test_compiled_files_do_not_change_the_hash(built: Path) -> None:
    before = settings.fingerprint(built, {}, {})
    (built / "OpenReserveLayer/api.cpython-311.pyc").write_bytes(b"of another python")

    assert settings.fingerprint(built, {}, {}) == before


def test_an_empty_build_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match="run sam build"):
        settings.fingerprint(tmp_path, {}, {})


def test_sam_parses_the_overrides_unchanged() -> None:
    given = {
        "ServiceName": "openreserve-dev",
        "JwtAudience": "a,b",
        "Words": 'two "quoted" words',
        "Empty": "",
        "Equals": "a=b",
        "DatabaseUrl": "postgresql://app@host/db?sslmode=verify-full&x=y",
    }

    read = CfnParameterOverridesType().convert(settings.options(given), None, None)

    assert read == given
