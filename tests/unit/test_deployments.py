"""How a deployment moves calls to new code, and what makes it go back."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from openreserve.runtime.telemetry import emit
from tests.support.sam_transform import rendered, transformed
from tests.support.stack import FUNCTIONS, cloudformation, made_of_type, of_type, variables

SERVING = {name for name, function in FUNCTIONS.items() if "AutoPublishAlias" in function}
"""All but those that deployments, or operators, invoke."""
OF_NEW_VERSIONS = {"NewVersionErrorsAlarm", "NewVersionServerErrorsAlarm"}
"""The alarms that a deployment goes back for."""


def deployment_groups(parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        name: made
        for name, made in transformed(parameters)["Resources"].items()
        if made["Type"] == "AWS::CodeDeploy::DeploymentGroup"
    }


def test_new_code_gets_calls_by_and_by_and_none_when_an_alarm_says_so() -> None:
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
        assert watched == OF_NEW_VERSIONS
        assert properties["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}


def test_alarms_of_deployments_count_the_new_version_of_each_function_alone() -> None:
    """Or an error of the old version would stop the deployment that mends it."""
    versions = {
        made["Properties"]["FunctionName"]["Ref"]: name
        for name, made in made_of_type("AWS::Lambda::Version").items()
    }
    for alarm in OF_NEW_VERSIONS:
        for metric in cloudformation()[alarm]["Properties"]["Metrics"][1:]:
            dimensions = {
                each["Name"]: each["Value"] for each in metric["MetricStat"]["Metric"]["Dimensions"]
            }
            function = dimensions.get("FunctionName") or dimensions["functionName"]
            version = dimensions.get("ExecutedVersion") or dimensions["functionVersion"]
            assert version == {"Fn::GetAtt": [versions[function["Ref"]], "Version"]}
            if "ExecutedVersion" in dimensions:
                assert dimensions["Resource"] == {"Fn::Sub": f"${{{function['Ref']}}}:live"}


def test_an_alarm_that_rang_for_the_old_versions_is_not_the_one_of_the_new_ones() -> None:
    """CloudFormation replaces an alarm whose name changes, and a new one has not rung."""

    def names(code: str) -> dict[str, str]:
        def change(document: dict[str, Any]) -> None:
            document["Resources"]["OpenReserveLayer"]["Properties"]["ContentUri"] = f"s3://b/{code}"

        made = transformed(change=change)["Resources"]
        known = {"AWS::StackName": "openreserve-prod"}
        return {
            alarm: rendered(made[alarm]["Properties"]["AlarmName"], known)
            for alarm in OF_NEW_VERSIONS
        }

    before, again, after = names("one"), names("one"), names("two")
    assert before == again
    assert all(before[alarm] != after[alarm] for alarm in OF_NEW_VERSIONS)


def test_no_deployment_goes_back_for_a_single_error() -> None:
    for name in (*OF_NEW_VERSIONS, "FunctionErrorsAlarm", "ServerErrorsAlarm", "ThrottlesAlarm"):
        alarm = of_type("AWS::CloudWatch::Alarm")[name]
        periods = {
            part["MetricStat"]["Period"]
            for part in alarm.get("Metrics", ())
            if "MetricStat" in part
        } or {alarm["Period"]}
        assert alarm["Threshold"] >= 5, name
        assert periods == {300}, name
        assert alarm["EvaluationPeriods"] == 1, "a canary of five minutes is over after two"


def test_a_deployment_can_be_made_without_alarms() -> None:
    groups = deployment_groups({"DeploymentAlarms": "ignored"})

    assert len(groups) == 9
    for group in groups.values():
        assert group["Properties"]["AlarmConfiguration"] == {}


def test_the_log_has_what_the_metric_of_new_versions_counts(
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


def test_the_schema_is_migrated_by_the_new_code_before_any_function_gets_calls() -> None:
    for name, alias in made_of_type("AWS::Lambda::Alias").items():
        policy = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert policy["BeforeAllowTrafficHook"] == {"Ref": "BeforeTrafficFunction"}, name
    for name in SERVING:
        assert "MigrateFunction" in cloudformation()[name]["DependsOn"], name
    assert variables("BeforeTrafficFunction")["MIGRATE_FUNCTION_NAME"] == {"Ref": "MigrateFunction"}


def test_the_migration_has_less_time_than_what_waits_for_it() -> None:
    waiting = FUNCTIONS["BeforeTrafficFunction"]["Timeout"]

    assert FUNCTIONS["MigrateFunction"]["Timeout"] < 850 < waiting <= 900


def test_a_change_of_a_setting_is_a_version_too() -> None:
    for name in SERVING:
        assert FUNCTIONS[name]["AutoPublishAlias"] == "live"
        assert FUNCTIONS[name]["AutoPublishAliasAllProperties"] is True
