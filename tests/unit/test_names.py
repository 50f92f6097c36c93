"""A second stage fits beside the first, in one account and region: no name is both of them's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samtranslator.yaml_helper import yaml_parse

from infra.local.template.intrinsics import REGION
from tests.support.sam_transform import Change, rendered, transformed

ROOT = Path(__file__).parents[2]
STAGES = ("dev", "dev2")
NAMES = {
    "AWS::ApiGatewayV2::DomainName": {"DomainName"},
    "AWS::EC2::SecurityGroup": {"GroupName"},
    "AWS::ElastiCache::User": {"UserName"},
    "AWS::IAM::ManagedPolicy": {"ManagedPolicyName"},
    "AWS::Lambda::LayerVersion": {"LayerName"},
    "AWS::SQS::Queue": {"QueueName"},
}
"""Properties that name a resource, although its schema counts them among no identifiers."""
OF_ALL_STAGES = {("AWS::Lambda::Alias", "live"), ("AWS::ApiGatewayV2::Stage", "$default")}
"""Names within a function, or an API, which is itself a stage's own."""


def identifying(type_: str) -> set[str]:
    """The properties that CloudFormation, or the service, finds a resource by."""
    if type_.startswith("Custom::"):
        return set()  # a call of a function
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, type_).schema
    keys = [schema["primaryIdentifier"], *schema.get("additionalIdentifiers", [])]
    paths = {path for key in keys for path in key} - set(schema.get("readOnlyProperties", []))
    return {path.removeprefix("/properties/") for path in paths} | NAMES.get(type_, set())


def identities(document: dict[str, Any], known: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Of each resource that has a name which is not CloudFormation's: its type, and that."""
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        given = sorted(identifying(resource["Type"]) & properties.keys())
        if given:
            yield (
                resource["Type"],
                *(rendered(properties[name], known) for name in given),
            )
    for output in document.get("Outputs", {}).values():
        if "Export" in output:
            yield "export", rendered(output["Export"]["Name"], known)


def everything(stage: str) -> dict[str, str]:
    """Parameters with which all resources are there."""
    return {
        "CorsAllowOrigins": "https://shop.example",
        "DomainName": f"{stage}.shop.example",
        "DomainCertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
        "DomainHostedZoneId": "Z1",
        "SaleWarm": "1",
        "BudgetUsd": "1",
        "KmsKeyArn": "a-key",
    }


def app(change: Change = lambda _: None) -> list[set[tuple[str, ...]]]:
    """The names in template.yaml's stack of each stage."""
    return [
        set(
            identities(
                transformed(everything(stage), change), {"AWS::StackName": f"openreserve-{stage}"}
            )
        )
        for stage in STAGES
    ]


def data(name: str) -> list[set[tuple[str, ...]]]:
    document = yaml_parse((ROOT / f"infra/{name}.yaml").read_text())
    return [
        set(identities(document, {"AWS::StackName": f"openreserve-{stage}-{name}", "Stage": stage}))
        for stage in STAGES
    ]


def test_no_name_in_the_stack_of_one_stage_is_in_that_of_another() -> None:
    one, other = app()

    assert {kind for kind, *_ in one} >= {
        "AWS::ApiGatewayV2::DomainName",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::Lambda::LayerVersion",
        "AWS::Route53::RecordSet",
    }
    assert one & other <= OF_ALL_STAGES


@pytest.mark.parametrize("name", ["network", "database", "cache"])
def test_no_name_in_a_data_stack_of_one_stage_is_in_that_of_another(name: str) -> None:
    one, other = data(name)

    assert one
    assert one & other == set()


@pytest.mark.parametrize(
    ("resource", "property_", "value"),
    [
        ("DeadLetterQueue", "QueueName", "dead-letters"),
        ("Logs", "LogGroupName", "/openreserve/logs"),
        ("ReserveRole", "RoleName", "reserve"),
        ("RunPolicy", "ManagedPolicyName", "run"),
        ("UnforeseenAlarm", "AlarmName", "unforeseen"),
        ("Dashboard", "DashboardName", "dashboard"),
    ],
)
def test_a_fixed_name_would_be_found(resource: str, property_: str, value: str) -> None:
    def fix(document: dict[str, Any]) -> None:
        document["Resources"][resource]["Properties"][property_] = value

    one, other = app(fix)

    assert any(value in identity for identity in one & other)


def test_a_schedule_with_a_name_would_be_found() -> None:
    def fix(document: dict[str, Any]) -> None:
        event = document["Resources"]["ExpireFunction"]["Properties"]["Events"]["EveryMinute"]
        del event["Properties"]["OmitName"]

    one, other = app(fix)

    assert ("AWS::Scheduler::Schedule", "ExpireFunctionEveryMinute") in one & other
