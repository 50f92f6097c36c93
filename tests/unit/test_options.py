"""What a stage may ask for by parameter: a domain, warm functions for a sale, a budget, alarms."""

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
BY_PARAMETER = {"Domain", "DomainMapping", "DomainRecord", "ReserveSale", "Budget"}


def made(**parameters: str) -> dict[str, Any]:
    resources: dict[str, Any] = transformed(parameters)["Resources"]
    return resources


def asserted(rule: str, **parameters: str) -> list[bool]:
    """What each assertion of a rule comes to; none, if the rule does not apply."""
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


def test_by_default_there_is_none_of_it() -> None:
    resources = made()

    assert not BY_PARAMETER & resources.keys()
    alias = resources["ReserveFunctionAliaslive"]["Properties"]
    assert "ProvisionedConcurrencyConfig" not in alias


def test_a_domain_name_leads_to_the_api() -> None:
    resources = made(**DOMAIN)

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


def test_the_domain_name_is_written_into_the_hosted_zone_that_is_given() -> None:
    record = made(**DOMAIN, **ZONE)["DomainRecord"]["Properties"]

    assert (record["HostedZoneId"], record["Name"], record["Type"]) == (
        "Z1",
        "api.shop.example",
        "A",
    )
    assert record["AliasTarget"] == {
        "DNSName": {"Fn::GetAtt": ["Domain", "RegionalDomainName"]},
        "HostedZoneId": {"Fn::GetAtt": ["Domain", "RegionalHostedZoneId"]},
    }


def test_reserve_is_kept_warm_on_the_version_that_is_live() -> None:
    alias = made(ReserveWarm="20")["ReserveFunctionAliaslive"]["Properties"]

    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": "20"}


def test_reserve_is_warmed_up_before_a_sale_and_let_go_after_it() -> None:
    target = made(**SALE, ReserveWarm="20")["ReserveSale"]["Properties"]
    begins, ends = target["ScheduledActions"]

    assert rendered(begins["Schedule"], SALE_STACK) == "at(2026-11-27T08:45:00)"
    assert begins["ScalableTargetAction"] == {"MinCapacity": "500", "MaxCapacity": "500"}
    assert rendered(ends["Schedule"], SALE_STACK) == "at(2026-11-27T12:00:00)"
    assert ends["ScalableTargetAction"] == {"MinCapacity": "20", "MaxCapacity": "20"}
    assert (target["MinCapacity"], target["MaxCapacity"]) == ("20", "500")


def test_what_is_warmed_up_is_the_alias_that_the_api_calls() -> None:
    """Of arn:aws:lambda:REGION:ACCOUNT:function:NAME:live, the last two."""
    text, given = made(**SALE)["ReserveSale"]["Properties"]["ResourceId"]["Fn::Sub"]
    arn = "arn:aws:lambda:eu-central-1:123456789012:function:a-name:live"

    for name, value in given.items():
        match value:
            case {"Fn::Select": [place, {"Fn::Split": [":", {"Ref": "ReserveFunctionAliaslive"}]}]}:
                text = text.replace(f"${{{name}}}", arn.split(":")[place])
    assert text == "function:a-name:live"


def test_a_budget_tells_of_what_was_spent_and_of_what_will_be() -> None:
    budget = made(**BUDGET)["Budget"]["Properties"]

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


def test_a_budget_can_count_one_stage_alone() -> None:
    budget = made(**BUDGET, BudgetTag="user:stage$prod")["Budget"]["Properties"]["Budget"]

    assert budget["CostFilters"] == {"TagKeyValue": ["user:stage$prod"]}


@pytest.mark.parametrize(
    ("rule", "parameters", "missing"),
    [
        ("DomainHasItsCertificate", DOMAIN, "DomainCertificateArn"),
        ("BudgetHasItsReader", BUDGET, "BudgetEmail"),
        ("SaleHasItsTimes", SALE, "SaleBegins"),
        ("SaleHasItsTimes", SALE, "SaleEnds"),
    ],
)
def test_half_of_what_belongs_together_is_refused_before_anything_is_deployed(
    rule: str, parameters: dict[str, str], missing: str
) -> None:
    assert asserted(rule) == []
    assert all(asserted(rule, **parameters))
    assert asserted(rule, **parameters | {missing: ""}).count(False) == 1


def test_snapshots_and_warm_copies_are_not_asked_for_together() -> None:
    rule, snapshots = "SnapshotsAreNotKeptWarm", {"SnapStart": "PublishedVersions"}

    assert asserted(rule, **SALE) == []
    assert asserted(rule, **snapshots) == [True, True]
    assert asserted(rule, **snapshots, ReserveWarm="1") == [False, True]
    assert asserted(rule, **snapshots, **SALE) == [True, False]


@pytest.mark.parametrize("moment", ["2026-11-27", "2026-11-27 08:45:00", "2026-11-27T08:45:00Z"])
def test_a_time_of_another_form_is_refused(moment: str) -> None:
    for name in ("SaleBegins", "SaleEnds"):
        pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
        assert re.fullmatch(pattern, SALE[name])
        assert not re.fullmatch(pattern, moment)


def test_refusals_with_429_ring_an_alarm() -> None:
    """API Gateway has no metric of them alone; its log has each."""
    resources = made()
    metric = resources["TooManyRequestsMetric"]["Properties"]
    alarm = resources["TooManyRequestsAlarm"]["Properties"]

    assert metric["LogGroupName"] == {"Ref": "ApiLogs"}
    assert metric["FilterPattern"] == '{ $.status = "429" && $.routeKey != "*/health" }'
    (transformation,) = metric["MetricTransformations"]
    assert transformation["MetricName"] == alarm["MetricName"] == "TooManyRequests"
    assert transformation["MetricNamespace"] == alarm["Namespace"]
    assert (alarm["Threshold"], alarm["Period"]) == (10, 300)


def test_alarms_are_priced_by_the_metrics_that_each_looks_at() -> None:
    """As AWS bills them: an alarm on an expression is billed for each metric in it."""
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
