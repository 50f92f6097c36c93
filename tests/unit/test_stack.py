"""What runs on AWS, and how it gets there: the template, and what SAM makes of it."""

import re
from collections.abc import Iterator
from dataclasses import fields
from graphlib import TopologicalSorter
from typing import Any

import pytest
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

from infra.local.template.intrinsics import REGION
from openreserve.runtime.settings import Settings
from tests.support.aws_calls import ROOT, reached
from tests.support.stack import (
    FUNCTIONS,
    GLOBALS,
    RESOURCES,
    TEMPLATE,
    cloudformation,
    listed,
    made_of_type,
    named_in,
    of_type,
    role_of,
    statements,
    variables,
)

OUTSIDE_THE_VPC = {"BeforeTrafficFunction", "EndpointsFunction", "WebhookFunction"}
DIRECT = {"AuditFunction", "MigrateFunction"}
"""Functions that go around the proxy, as the owner."""
OF_DEPLOYMENTS = {"BeforeTrafficFunction", *DIRECT}
"""Functions that serve no traffic: deployments and operators invoke them."""
AS_IN_THE_CODE = {
    "AUDIT_BATCH_SIZE": "chosen by measurement",
    "BATCH_ROWS_MAX": "so many have the time of one call",
    "BODY_BYTES_MAX": "far below what API Gateway takes",
    "DEADLINE_HORIZON_SECONDS": "belongs to the schedule of a minute",
    "EVENT_RETENTION_DAYS": "promised to those who pull",
    "HEALTH_CACHE_MS": "monitors ask every few seconds",
    "EXPIRE_BATCH_SIZE": "chosen by measurement",
    "KEY_RETENTION_HOURS": "promised to callers",
    "PAGE_SIZE_MAX": "promised to callers",
    "RECLAIM_BATCH_SIZE": "chosen by measurement",
    "REDIS_PAUSE_MS_MAX": "chosen by measurement",
    "REDIS_PAUSE_MS_MIN": "chosen by measurement",
    "REDIS_TIMEOUT_MS": "chosen by measurement",
    "REPLAY_SECONDS": "Postgres keeps answers longer",
    "RESERVATION_RETENTION_DAYS": "promised to callers",
    "SOLD_OUT_MS_MAX": "chosen by measurement",
}
"""Settings that no stage has another value for, and why."""


def alarms() -> dict[str, Any]:
    return of_type("AWS::CloudWatch::Alarm")


def queues() -> dict[str, Any]:
    return of_type("AWS::SQS::Queue")


def dead_letter_queues() -> set[str]:
    """Queues that others, schedules or Lambda leave to people what they give up."""
    return {
        queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for queue in queues().values()
        if "RedrivePolicy" in queue
    } | {"FailedCallsQueue"}


def schedules() -> Iterator[dict[str, Any]]:
    for function in FUNCTIONS.values():
        for event in function.get("Events", {}).values():
            if event["Type"] == "ScheduleV2":
                yield event["Properties"]


def test_only_what_needs_postgres_or_redis_is_in_the_vpc() -> None:
    inside = {name for name, function in FUNCTIONS.items() if "VpcConfig" in function}
    needing = {
        name
        for name, function in FUNCTIONS.items()
        for module, _ in reached(ROOT / function["CodeUri"] / "app.py")
        if module.endswith(
            ("/postgres/connection.py", "/cache/connection.py", "/postgres/owner.py")
        )
    }

    assert inside == needing == FUNCTIONS.keys() - OUTSIDE_THE_VPC
    assert "VpcConfig" not in GLOBALS
    for name in inside:
        group = "Migrations" if name in DIRECT else "Functions"
        assert FUNCTIONS[name]["VpcConfig"] == {
            "SubnetIds": {"Ref": "PrivateSubnetIds"},
            "SecurityGroupIds": [{"Ref": f"{group}SecurityGroupId"}],
        }


def test_what_is_outside_has_no_way_to_postgres_or_redis_and_no_rights_there() -> None:
    for name in OUTSIDE_THE_VPC:
        environment = variables(name)
        assert (environment["DATABASE_URL"], environment["REDIS_URL"]) == ("", ""), name
        assert (environment["DATABASE_AUTH"], environment["REDIS_AUTH"]) == ("url", "url"), name
        assert "MIGRATION_URL" not in environment
        services = {
            action.partition(":")[0]
            for statement in statements(role_of(name))
            for action in listed(statement["Action"])
        }
        assert not services & {"rds-db", "elasticache", "ec2"}, name


def test_only_migrations_and_audits_know_the_owner_of_the_schema() -> None:
    for name in FUNCTIONS.keys() - DIRECT:
        assert not {"MIGRATION_URL", "MIGRATION_SECRET_ARN"} & variables(name).keys()
    for name in DIRECT:
        assert variables(name)["DATABASE_URL"] == ""


def test_each_setting_of_the_code_is_set_or_has_a_reason_not_to_be() -> None:
    known = {setting.name.upper() for setting in fields(Settings)}
    given = {name for function in FUNCTIONS for name in variables(function)}

    of_libraries = {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME"}
    assert given - of_libraries == known - AS_IN_THE_CODE.keys()
    assert known >= AS_IN_THE_CODE.keys()


def test_no_url_that_the_template_makes_has_a_password_or_options() -> None:
    urls = [
        *_composed(variables("ReserveFunction")["DATABASE_URL"]),
        *(url for name in DIRECT for url in _composed(variables(name)["MIGRATION_URL"])),
        *_composed(variables("ReserveFunction")["REDIS_URL"]),
    ]

    assert len(urls) == 4
    for url in urls:
        user = url.partition("://")[2].partition("@")[0]
        assert ":" not in user, url
        assert "options=" not in url
        assert "sslmode=verify-full&sslrootcert=/opt/python/" in url or url.startswith("rediss://")


def _composed(value: Any) -> list[str]:
    """The text of the branch of `!If` that composes a URL."""
    _, composed, own = value["Fn::If"]
    assert list(own) == ["Ref"]
    return [listed(composed["Fn::Sub"])[0]]


def test_logs_are_kept_as_long_as_cloudwatch_can() -> None:
    days = TEMPLATE["Parameters"]["LogRetentionDays"]

    assert days["Default"] in days["AllowedValues"]
    assert 2 not in days["AllowedValues"], "CloudWatch refuses it when the stack is half made"


def test_what_the_stacks_have_written_down_is_read_from_parameter_store() -> None:
    for name, parameter in TEMPLATE["Parameters"].items():
        if "SSM" in parameter["Type"]:
            assert parameter["Type"].startswith("AWS::SSM::Parameter::Value<"), name
            assert parameter["Default"].startswith("/openreserve/dev/"), name
            assert name in set(named_in([RESOURCES, GLOBALS, TEMPLATE["Conditions"]])), name


def test_every_queue_has_a_dead_letter_queue_or_is_one_and_is_encrypted() -> None:
    assert dead_letter_queues() <= queues().keys()
    for name, queue in queues().items():
        assert ("RedrivePolicy" in queue) != (name in dead_letter_queues()), name
        assert queue["MessageRetentionPeriod"] == 1_209_600, name
        managed, key = queue["SqsManagedSseEnabled"], queue["KmsMasterKeyId"]
        assert managed == {"Fn::If": ["HasKmsKey", {"Ref": "AWS::NoValue"}, True]}, name
        assert key == {"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
    policy = RESOURCES["EncryptedQueues"]["Properties"]
    assert {queue["Ref"] for queue in policy["Queues"]} == queues().keys()


def test_a_dead_letter_is_kept_as_long_as_the_docs_say() -> None:
    """A standard queue counts from when a message was first sent: the attempts are a part of it."""
    waits = sum(Settings().webhook_schedule_seconds) * 1.1
    kept_days = (queues()["DeadLetterQueue"]["MessageRetentionPeriod"] - waits) / 86_400
    (said,) = re.findall(
        r"at least (\d+) days after it was given up", (ROOT / "docs/how-to/webhooks.md").read_text()
    )

    assert int(said) == int(kept_days)
    assert (
        TEMPLATE["Parameters"]["WebhookRetrySeconds"]["Default"] == Settings().webhook_retry_seconds
    )


def test_every_dead_letter_queue_has_an_alarm() -> None:
    watched = {
        dimension["Value"]["Fn::GetAtt"][0]
        for alarm in alarms().values()
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        for dimension in alarm["Dimensions"]
    }

    assert watched == dead_letter_queues()


def test_a_queue_calls_its_function_within_limits_and_hears_of_each_message() -> None:
    events = [
        event["Properties"]
        for function in FUNCTIONS.values()
        for event in function.get("Events", {}).values()
        if event["Type"] == "SQS"
    ]

    assert events
    for event in events:
        assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert event["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "WebhookConcurrency"}}


def test_every_schedule_retries_and_leaves_what_it_gives_up() -> None:
    found = list(schedules())

    assert len(found) == len(made_of_type("AWS::Scheduler::Schedule")) == 2
    for schedule in found:
        assert schedule["RetryPolicy"]["MaximumRetryAttempts"] >= 1
        assert schedule["RetryPolicy"]["MaximumEventAgeInSeconds"] == 60, "then comes the next call"
        assert schedule["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["FailedCallsQueue", "Arn"]}}
        assert schedule["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}


def test_schedules_call_nothing_before_the_first_migration() -> None:
    """A new stack has no traffic to shift, and so no hook."""
    first = RESOURCES["FirstMigration"]

    assert first["Type"] == "Custom::Migration"
    assert first["Properties"]["ServiceToken"] == {"Fn::GetAtt": ["BeforeTrafficFunction", "Arn"]}
    assert (
        int(first["Properties"]["ServiceTimeout"]) >= FUNCTIONS["BeforeTrafficFunction"]["Timeout"]
    )
    for schedule in made_of_type("AWS::Scheduler::Schedule").values():
        alias = cloudformation()[schedule["Properties"]["Target"]["Arn"]["Ref"]]
        called = cloudformation()[alias["Properties"]["FunctionName"]["Ref"]]
        assert "FirstMigration" in called["DependsOn"]


def test_a_failed_asynchronous_call_is_kept_in_its_queue() -> None:
    unattended = {
        name
        for name, function in FUNCTIONS.items()
        if any(event["Type"] == "ScheduleV2" for event in function.get("Events", {}).values())
    } | {"BeforeTrafficFunction"}

    assert {name for name, f in FUNCTIONS.items() if "EventInvokeConfig" in f} == unattended
    for name in unattended:
        invoked = FUNCTIONS[name]["EventInvokeConfig"]
        failed = invoked["DestinationConfig"]["OnFailure"]["Destination"]
        assert failed == {"Fn::GetAtt": ["FailedCallsQueue", "Arn"]}
        assert invoked["MaximumEventAgeInSeconds"] >= 60


def test_every_log_is_kept_so_long_and_no_longer() -> None:
    groups = made_of_type("AWS::Logs::LogGroup")

    assert groups.keys() == {"Logs", "ApiLogs"}
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for function in made_of_type("AWS::Lambda::Function").values():
        assert function["Properties"]["LoggingConfig"] == {
            "LogFormat": "JSON",
            "LogGroup": {"Ref": "Logs"},
        }
        assert function["Properties"]["TracingConfig"] == {"Mode": "Active"}


def test_the_access_log_has_no_token_and_names_the_stage() -> None:
    """A path has the token of a reservation, which is a secret; its route has not."""
    format_ = RESOURCES["Api"]["Properties"]["AccessLogSettings"]["Format"]["Fn::Sub"]

    assert "\n" not in format_
    assert "$context.path" not in format_
    assert "$context.routeKey" in format_
    assert '"service":"${ServiceName}"' in format_


def test_the_api_has_limits_and_metrics_for_each_route() -> None:
    assert RESOURCES["Api"]["Properties"]["DefaultRouteSettings"] == {
        "DetailedMetricsEnabled": True,
        "ThrottlingBurstLimit": {"Ref": "ApiBurst"},
        "ThrottlingRateLimit": {"Ref": "ApiRequestsPerSecond"},
    }


HEALTH_ROUTES = {
    f"{method} {path}" for method in ("GET", "HEAD") for path in ("/health", "/api/v1/health")
}


def test_what_needs_no_credentials_has_limits_of_its_own_and_takes_none_of_the_buyers() -> None:
    anonymous = {
        f"{event['Properties']['Method']} {event['Properties']['Path']}"
        for function in FUNCTIONS.values()
        for event in function.get("Events", {}).values()
        if event["Properties"].get("Auth") == {"Authorizer": "NONE"}
    }
    settings = RESOURCES["Api"]["Properties"]["RouteSettings"]

    assert settings.keys() == anonymous == HEALTH_ROUTES
    for limits in settings.values():
        assert limits == {
            "DetailedMetricsEnabled": True,
            "ThrottlingBurstLimit": {"Ref": "HealthBurst"},
            "ThrottlingRateLimit": {"Ref": "HealthRequestsPerSecond"},
        }
    (stage,) = made_of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["Properties"]["RouteSettings"].keys() == anonymous


def test_metrics_of_stages_in_one_account_have_different_dimensions() -> None:
    for metric in of_type("AWS::Logs::MetricFilter").values():
        (transformation,) = metric["MetricTransformations"]
        assert transformation["Dimensions"][0] == {"Key": "service", "Value": "$.service"}
    for name, alarm in alarms().items():
        if alarm.get("Namespace") == "OpenReserve":
            service = {"Name": "service", "Value": {"Ref": "ServiceName"}}
            assert service in alarm["Dimensions"], name


def test_alarms_of_functions_watch_all_that_serve() -> None:
    for name in ("FunctionErrorsAlarm", "NewVersionErrorsAlarm", "ThrottlesAlarm"):
        assert set(named_in(alarms()[name]["Metrics"])) == FUNCTIONS.keys() - OF_DEPLOYMENTS
    answering = {
        name
        for name, function in FUNCTIONS.items()
        if any(event["Type"] == "HttpApi" for event in function.get("Events", {}).values())
    }
    watched = set(named_in(alarms()["NewVersionServerErrorsAlarm"]["Metrics"]))
    assert watched - {"ServiceName"} == answering


def test_the_migration_has_less_time_than_what_waits_for_it() -> None:
    waiting = FUNCTIONS["BeforeTrafficFunction"]["Timeout"]

    assert FUNCTIONS["MigrateFunction"]["Timeout"] < 850 < waiting <= 900


def test_api_and_schedules_call_the_version_that_is_live() -> None:
    for schedule in made_of_type("AWS::Scheduler::Schedule").values():
        assert schedule["Properties"]["Target"]["Arn"]["Ref"].endswith("FunctionAliaslive")
    for permission in made_of_type("AWS::Lambda::Permission").values():
        assert permission["Properties"]["FunctionName"]["Ref"].endswith("FunctionAliaslive")
    mappings = made_of_type("AWS::Lambda::EventSourceMapping").values()
    assert [mapping["Properties"]["FunctionName"]["Ref"] for mapping in mappings] == [
        "WebhookFunctionAliaslive"
    ] * 2


def test_every_function_that_serves_can_be_limited_and_two_copies_of_expire_fit() -> None:
    limited = {name for name, f in FUNCTIONS.items() if "ReservedConcurrentExecutions" in f}
    copies = TEMPLATE["Parameters"]["ScheduleConcurrency"]["AllowedValues"]

    assert limited == FUNCTIONS.keys() - OF_DEPLOYMENTS - {"WebhookFunction"}
    assert copies[0] == 0
    assert min(copies[1:]) >= 2
    for name in limited:
        limit = FUNCTIONS[name]["ReservedConcurrentExecutions"]["Fn::If"]
        assert limit[2] == {"Ref": "AWS::NoValue"}, "no limit is not the limit 0"


def test_nothing_waits_for_itself() -> None:
    """Neither CloudFormation's linter nor SAM looks at what deployments wait for."""
    made = cloudformation()
    waits_for = {
        name: {
            other
            for other in [
                *named_in(resource.get("Properties", {})),
                *named_in(resource.get("UpdatePolicy", {})),
                *listed(resource.get("DependsOn", [])),
            ]
            if other in made
        }
        for name, resource in made.items()
    }

    assert len(list(TopologicalSorter(waits_for).static_order())) == len(made)
    assert "ReserveFunctionAliaslive" in waits_for["Api"]


def test_sam_adds_no_role_of_its_own() -> None:
    assert made_of_type("AWS::IAM::Role").keys() == of_type("AWS::IAM::Role").keys()


def test_the_outputs_say_how_to_call_it() -> None:
    assert TEMPLATE["Outputs"].keys() >= {
        "ApiUrl",
        "DeadLetterQueueUrl",
        "FailedCallsQueueUrl",
        "HowToCall",
        "MigrateFunction",
        "WebhookQueueUrl",
        "WebhookRetryQueueUrl",
    }
    for name, output in TEMPLATE["Outputs"].items():
        assert output["Description"], name
        assert set(named_in(output["Value"])) <= RESOURCES.keys() | {
            "AWS::Region",
            "AWS::URLSuffix",
            "DomainName",
        }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of sam itself
@pytest.mark.parametrize("redis_url", ["redis://redis", ""])
def test_sam_local_runs_the_functions_on_servers_of_ones_own(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    own = {"DatabaseUrl": "postgresql://app", "MigrationUrl": "postgresql://owner"}
    stacks, _ = SamLocalStackProvider.get_stacks(
        str(ROOT / "template.yaml"), parameter_overrides=own | {"RedisUrl": redis_url}
    )
    found = {
        function.functionname: function.environment["Variables"]
        for function in SamFunctionProvider(stacks).get_all()
    }

    reserve, migrate = found["ReserveFunction"], found["MigrateFunction"]
    assert (reserve["DATABASE_URL"], reserve["DATABASE_AUTH"]) == ("postgresql://app", "url")
    assert (reserve["REDIS_URL"], reserve["REDIS_AUTH"]) == (redis_url, "url")
    assert (reserve["REDIS_CACHE_NAME"], reserve["REDIS_RESOURCE_TYPE"]) == ("", "")
    assert migrate["MIGRATION_URL"] == "postgresql://owner"
    assert migrate["MIGRATION_SECRET_ARN"] == ""
