"""Optional features of a stage: a domain, warm functions for a sale, a budget, alarms."""

import re
from typing import Any

import pytest

from infra.costs.__main__ import ASSUMED
from infra.deploy.__main__ import DATA
from tests.support.sam_transform import decided, rendered, transformed
from tests.support.stack import ROOT, TEMPLATE

DOMAIN = {
    "DomainName": "api.shop.example",
    "DomainCertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
}
ZONE = {"DomainHostedZoneId": "Z1"}
SALE = {
    "SaleWarm": "500",
    "SaleBegins": "2026-11-27T08:45:00",
    "SaleEnds": "2026-11-27T12:00:00",
}
SALE_STACK = {"AWS::StackName": "openreserve-prod", **SALE}
BUDGET = {"BudgetUsd": "500", "BudgetEmail": "ops@shop.example"}
OPTIONAL_RESOURCES = {"Domain", "DomainMapping", "DomainRecord", "ReserveSale", "Budget"}


def resources_with(**parameters: str) -> dict[str, Any]:
    resources: dict[str, Any] = transformed(parameters)["Resources"]
    return resources


def asserted(rule: str, **parameters: str) -> list[bool]:
    """The result of each assertion of a rule; empty if the rule does not apply."""
    document = transformed(parameters)["Rules"][rule]

    def holds(value: Any) -> bool:
        match value:
            case {"Fn::Not": [denied]}:
                return not holds(denied)
            case {"Fn::Equals": [one, other]}:
                return str(one) == str(other)
        raise AssertionError(value)

    if not holds(document["RuleCondition"]):
        return []
    return [holds(assertion["Assert"]) for assertion in document["Assertions"]]


def test_optional_resources_are_off_by_default() -> None:
    resources = resources_with()

    assert not OPTIONAL_RESOURCES & resources.keys()
    alias = resources["ReserveFunctionAliaslive"]["Properties"]
    assert "ProvisionedConcurrencyConfig" not in alias


def test_a_domain_name_maps_to_the_api() -> None:
    resources = resources_with(**DOMAIN)

    (configuration,) = resources["Domain"]["Properties"]["DomainNameConfigurations"]
    assert configuration["CertificateArn"] == DOMAIN["DomainCertificateArn"]
    assert configuration["SecurityPolicy"] == "TLS_1_2"
    assert resources["DomainMapping"]["Properties"] == {
        "ApiId": {"Ref": "Api"},
        "DomainName": {"Ref": "Domain"},
        "Stage": {"Ref": "ApiApiGatewayDefaultStage"},
    }
    assert "DomainRecord" not in resources
    assert transformed(DOMAIN)["Outputs"].keys() >= {"DomainUrl", "DomainTarget"}


def test_the_domain_record_is_created_in_the_given_hosted_zone() -> None:
    record = resources_with(**DOMAIN, **ZONE)["DomainRecord"]["Properties"]

    assert (record["HostedZoneId"], record["Name"], record["Type"]) == (
        "Z1",
        "api.shop.example",
        "A",
    )
    assert record["AliasTarget"] == {
        "DNSName": {"Fn::GetAtt": ["Domain", "RegionalDomainName"]},
        "HostedZoneId": {"Fn::GetAtt": ["Domain", "RegionalHostedZoneId"]},
    }


def test_provisioned_concurrency_belongs_to_the_alias_live() -> None:
    alias = resources_with(ReserveWarm="20")["ReserveFunctionAliaslive"]["Properties"]

    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": "20"}


def test_provisioned_concurrency_scales_up_before_a_sale_and_down_after_it() -> None:
    target = resources_with(**SALE, ReserveWarm="20")["ReserveSale"]["Properties"]
    begins, ends = target["ScheduledActions"]

    assert rendered(begins["Schedule"], SALE_STACK) == "at(2026-11-27T08:45:00)"
    assert begins["ScalableTargetAction"] == {"MinCapacity": "500", "MaxCapacity": "500"}
    assert rendered(ends["Schedule"], SALE_STACK) == "at(2026-11-27T12:00:00)"
    assert ends["ScalableTargetAction"] == {"MinCapacity": "20", "MaxCapacity": "20"}
    assert (target["MinCapacity"], target["MaxCapacity"]) == ("20", "500")


def test_the_scaling_target_is_the_alias_that_the_api_invokes() -> None:
    """The last two parts of arn:aws:lambda:REGION:ACCOUNT:function:NAME:live."""
    text, given = resources_with(**SALE)["ReserveSale"]["Properties"]["ResourceId"]["Fn::Sub"]
    arn = "arn:aws:lambda:eu-central-1:123456789012:function:a-name:live"

    for name, value in given.items():
        match value:
            case {"Fn::Select": [place, {"Fn::Split": [":", {"Ref": "ReserveFunctionAliaslive"}]}]}:
                text = text.replace(f"${{{name}}}", arn.split(":")[place])
    assert text == "function:a-name:live"


def test_a_budget_notifies_of_actual_and_forecast_costs() -> None:
    budget = resources_with(**BUDGET)["Budget"]["Properties"]

    assert budget["Budget"] == {
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "500", "Unit": "USD"},
    }
    notified = [
        (each["Notification"]["NotificationType"], each["Notification"]["Threshold"])
        for each in budget["NotificationsWithSubscribers"]
    ]
    assert notified == [("ACTUAL", 80), ("FORECASTED", 100)]
    for each in budget["NotificationsWithSubscribers"]:
        assert each["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": "ops@shop.example"}]


def test_a_budget_can_filter_by_the_tag_of_a_stage() -> None:
    budget = resources_with(**BUDGET, BudgetTag="user:stage$prod")["Budget"]["Properties"]["Budget"]

    assert budget["CostFilters"] == {"TagKeyValue": ["user:stage$prod"]}


@pytest.mark.parametrize(
    ("rule", "parameters", "missing"),
    [
        ("DomainRequiresCertificate", DOMAIN, "DomainCertificateArn"),
        ("BudgetRequiresEmail", BUDGET, "BudgetEmail"),
        ("SaleRequiresTimes", SALE, "SaleBegins"),
        ("SaleRequiresTimes", SALE, "SaleEnds"),
    ],
)
def test_an_incomplete_set_of_parameters_is_rejected(
    rule: str, parameters: dict[str, str], missing: str
) -> None:
    assert asserted(rule) == []
    assert all(asserted(rule, **parameters))
    assert asserted(rule, **parameters | {missing: ""}).count(False) == 1


def test_snapstart_and_provisioned_concurrency_exclude_each_other() -> None:
    rule, snapshots = "SnapStartExcludesWarm", {"SnapStart": "PublishedVersions"}

    assert asserted(rule, **SALE) == []
    assert asserted(rule, **snapshots) == [True, True]
    assert asserted(rule, **snapshots, ReserveWarm="1") == [False, True]
    assert asserted(rule, **snapshots, **SALE) == [True, False]


@pytest.mark.parametrize("moment", ["2026-11-27", "2026-11-27 08:45:00", "2026-11-27T08:45:00Z"])
def test_a_time_in_another_format_is_rejected(moment: str) -> None:
    for name in ("SaleBegins", "SaleEnds"):
        pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
        assert re.fullmatch(pattern, SALE[name])
        assert not re.fullmatch(pattern, moment)


def test_answers_with_429_set_off_an_alarm() -> None:
    """API Gateway has no metric for 429 alone; its access log has a line for each."""
    resources = resources_with()
    metric = resources["TooManyRequestsMetric"]["Properties"]
    alarm = resources["TooManyRequestsAlarm"]["Properties"]

    assert metric["LogGroupName"] == {"Ref": "ApiLogs"}
    assert metric["FilterPattern"] == '{ $.status = "429" && $.routeKey != "*/health" }'
    (transformation,) = metric["MetricTransformations"]
    assert transformation["MetricName"] == alarm["MetricName"] == "TooManyRequests"
    assert transformation["MetricNamespace"] == alarm["Namespace"]
    assert (alarm["Threshold"], alarm["Period"]) == (10, 300)


def test_alarms_are_priced_by_their_metrics() -> None:
    """AWS bills an alarm on an expression for each metric in it."""
    stacks = [
        transformed(),
        *(decided(ROOT / f"infra/{name}.yaml", {"Stage": "dev"}) for name in DATA),
    ]
    alarms = [
        resource["Properties"]
        for stack in stacks
        for resource in stack["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    metrics = sum(
        sum("MetricStat" in part for part in alarm.get("Metrics", ({"MetricStat": alarm},)))
        for alarm in alarms
    )

    assert metrics == ASSUMED.alarms
