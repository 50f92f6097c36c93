"""How a deployment shifts traffic to new code, and when it rolls back."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from openreserve.runtime.telemetry import emit
from tests.support.sam_transform import rendered, transformed
from tests.support.stack import FUNCTIONS, cloudformation, made_of_type, of_type, variables

SERVING = {name for name, function in FUNCTIONS.items() if "AutoPublishAlias" in function}
"""All functions except those that deployments or operators invoke."""
ROLLBACK_ALARMS = {"NewVersionErrorsAlarm", "NewVersionServerErrorsAlarm"}
"""The alarms that roll a deployment back."""


def deployment_groups(parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        name: made
        for name, made in transformed(parameters)["Resources"].items()
        if made["Type"] == "AWS::CodeDeploy::DeploymentGroup"
    }


def test_traffic_shifts_gradually_and_an_alarm_rolls_it_back() -> None:
    aliases = made_of_type("AWS::Lambda::Alias")
    groups = deployment_groups()

    assert {alias["Properties"]["Name"] for alias in aliases.values()} == {"live"}
    assert len(aliases) == len(groups) == len(SERVING)
    assert {name for name, function in FUNCTIONS.items() if "Events" in function} == SERVING
    for name, group in groups.items():
        properties = group["Properties"]
        assert properties["DeploymentConfigName"] == {
            "Fn::Sub": [
                "CodeDeployDefault.Lambda${ConfigName}",
                {"ConfigName": "Canary10Percent5Minutes"},
            ]
        }, name
        watched = {alarm["Name"]["Ref"] for alarm in properties["AlarmConfiguration"]["Alarms"]}
        assert watched == ROLLBACK_ALARMS
        assert properties["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}


def test_rollback_alarms_count_only_the_new_version_of_each_function() -> None:
    """Otherwise an error of the old version would block the deployment of its fix."""
    versions = {
        made["Properties"]["FunctionName"]["Ref"]: name
        for name, made in made_of_type("AWS::Lambda::Version").items()
    }
    for alarm in ROLLBACK_ALARMS:
        for metric in cloudformation()[alarm]["Properties"]["Metrics"][1:]:
            dimensions = {
                each["Name"]: each["Value"] for each in metric["MetricStat"]["Metric"]["Dimensions"]
            }
            function = dimensions.get("FunctionName") or dimensions["functionName"]
            version = dimensions.get("ExecutedVersion") or dimensions["functionVersion"]
            assert version == {"Fn::GetAtt": [versions[function["Ref"]], "Version"]}
            if "ExecutedVersion" in dimensions:
                assert dimensions["Resource"] == {"Fn::Sub": f"${{{function['Ref']}}}:live"}


def test_each_deployment_has_new_rollback_alarms() -> None:
    """CloudFormation replaces an alarm whose name changes, and a new alarm has no state."""

    def names(code: str) -> dict[str, str]:
        def change(document: dict[str, Any]) -> None:
            document["Resources"]["OpenReserveLayer"]["Properties"]["ContentUri"] = f"s3://b/{code}"

        made = transformed(change=change)["Resources"]
        known = {"AWS::StackName": "openreserve-prod"}
        return {
            alarm: rendered(made[alarm]["Properties"]["AlarmName"], known)
            for alarm in ROLLBACK_ALARMS
        }

    before, again, after = names("one"), names("one"), names("two")
    assert before == again
    assert all(before[alarm] != after[alarm] for alarm in ROLLBACK_ALARMS)


def test_a_single_error_does_not_roll_back() -> None:
    for name in (*ROLLBACK_ALARMS, "FunctionErrorsAlarm", "ServerErrorsAlarm", "ThrottlesAlarm"):
        alarm = of_type("AWS::CloudWatch::Alarm")[name]
        periods = {
            part["MetricStat"]["Period"]
            for part in alarm.get("Metrics", ())
            if "MetricStat" in part
        } or {alarm["Period"]}
        assert alarm["Threshold"] >= 5, name
        assert periods == {300}, name
        assert alarm["EvaluationPeriods"] == 1, "a canary of five minutes is over after two"


def test_rollback_alarms_can_be_ignored() -> None:
    groups = deployment_groups({"DeploymentAlarms": "ignored"})

    assert len(groups) == 9
    for group in groups.values():
        assert group["Properties"]["AlarmConfiguration"] == {}


def test_the_metric_filter_of_new_versions_matches_the_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "a-function")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "12")
    metric = of_type("AWS::Logs::MetricFilter")["NewVersionServerErrorsMetric"]
    (transformation,) = metric["MetricTransformations"]
    named = re.findall(r"\$\.(\w+)", metric["FilterPattern"])
    named += [each["Value"].removeprefix("$.") for each in transformation["Dimensions"]]

    emit({"Requests": 1}, dimensions={"outcome": "internal_error"}, facts={"status": 500})

    line = json.loads(capsys.readouterr().out)
    assert set(named) - {"service"} <= line.keys()
    assert line["status"] == 500


def test_the_new_code_migrates_the_schema_before_any_function_gets_traffic() -> None:
    for name, alias in made_of_type("AWS::Lambda::Alias").items():
        policy = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert policy["BeforeAllowTrafficHook"] == {"Ref": "BeforeTrafficFunction"}, name
    for name in SERVING:
        assert "MigrateFunction" in cloudformation()[name]["DependsOn"], name
    assert variables("BeforeTrafficFunction")["MIGRATE_FUNCTION_NAME"] == {"Ref": "MigrateFunction"}


def test_the_migration_has_a_shorter_timeout_than_the_hook() -> None:
    waiting = FUNCTIONS["BeforeTrafficFunction"]["Timeout"]

    assert FUNCTIONS["MigrateFunction"]["Timeout"] < 850 < waiting <= 900


def test_a_changed_setting_publishes_a_version() -> None:
    for name in SERVING:
        assert FUNCTIONS[name]["AutoPublishAlias"] == "live"
        assert FUNCTIONS[name]["AutoPublishAliasAllProperties"] is True
