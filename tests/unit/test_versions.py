"""A deployment reaches `live`: what changed is a new version of every function that it is in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType

from infra.deploy import settings
from tests.support.sam_transform import Change, transformed

LAYERS = ("OpenReserveLayer", "DependenciesLayer")


def versions(parameters: Mapping[str, str] | None = None, change: Change = lambda _: None) -> Any:
    """The logical id of the version of each function; CloudFormation publishes what is new."""
    resources = transformed(parameters, change)["Resources"]
    return {
        facts["Properties"]["FunctionName"]["Ref"]: name
        for name, facts in resources.items()
        if facts["Type"] == "AWS::Lambda::Version"
    }


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {function for function in one if one[function] != other[function]}


def uploaded(name: str, key: str) -> Change:
    """As `sam deploy` writes it: the name of an uploaded archive is the hash of its content."""

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
def test_new_code_in_a_layer_is_a_new_version_of_all_nine_functions(layer: str) -> None:
    before, after = (versions(change=uploaded(layer, key)) for key in ("one", "two"))

    assert len(before) == 9
    assert changed(before, after) == before.keys()


def test_new_code_of_one_function_is_a_new_version_of_that_one() -> None:
    before, after = (versions(change=uploaded("ReserveFunction", key)) for key in ("one", "two"))

    assert changed(before, after) == {"ReserveFunction"}


def test_the_same_code_and_settings_are_the_same_versions(built: Path) -> None:
    given = {"ItemsMax": "20"}
    hashes = [settings.fingerprint(built, given, {"/a": "b"}) for _ in range(2)]
    before, after = (versions(given | {settings.HASH: text}) for text in hashes)

    assert changed(before, after) == set()


def test_a_parameter_alone_is_no_new_version() -> None:
    """Why there is a hash: SAM compares `!Ref ItemsMax` with `!Ref ItemsMax`."""
    assert changed(versions({"ItemsMax": "20"}), versions({"ItemsMax": "30"})) == set()


def test_another_parameter_is_a_new_version_of_all_nine_functions(built: Path) -> None:
    before, after = (
        versions(given | {settings.HASH: settings.fingerprint(built, given, {})})
        for given in ({"ItemsMax": "20"}, {"ItemsMax": "30"})
    )

    assert len(before) == 9
    assert changed(before, after) == before.keys()


def test_another_value_in_parameter_store_is_a_new_version_of_all_nine_functions(
    built: Path,
) -> None:
    """As after a restore: the functions are to find the new cluster."""
    name = "/openreserve/dev/database/host"
    before, after = (
        versions({settings.HASH: settings.fingerprint(built, {}, {name: host})})
        for host in ("old.example", "new.example")
    )

    assert changed(before, after) == before.keys()


def test_the_hash_is_another_for_each_change_of_what_was_built(built: Path) -> None:
    hashes = [settings.fingerprint(built, {}, {})]
    (built / "OpenReserveLayer/api.py").write_text("VERSION = 2")
    hashes.append(settings.fingerprint(built, {}, {}))
    (built / "OpenReserveLayer/api.py").rename(built / "OpenReserveLayer/app.py")
    hashes.append(settings.fingerprint(built, {}, {}))

    assert len(set(hashes)) == 3


def test_a_compiled_file_beside_a_handler_is_no_change(built: Path) -> None:
    before = settings.fingerprint(built, {}, {})
    (built / "OpenReserveLayer/api.cpython-311.pyc").write_bytes(b"of another python")

    assert settings.fingerprint(built, {}, {}) == before


def test_without_a_build_there_is_no_hash(tmp_path: Path) -> None:
    with pytest.raises(settings.Unknown, match="run sam build"):
        settings.fingerprint(tmp_path, {}, {})


def test_sam_reads_the_overrides_as_they_were_meant() -> None:
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
