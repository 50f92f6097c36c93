"""template.yaml, as written and after SAM's transform."""

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
"""Functions that bypass the proxy and connect as the owner."""
WITHOUT_TRAFFIC = {"BeforeTrafficFunction", *DIRECT}
"""Functions that serve no traffic: deployments and operators invoke them."""
FIXED_SETTINGS = {
    "AUDIT_BATCH_SIZE": "chosen by measurement",
    "BATCH_ROWS_MAX": "this number fits into the time of one call",
    "BODY_BYTES_MAX": "far below the limit of API Gateway",
    "DEADLINE_HORIZON_SECONDS": "follows from the one-minute schedule",
    "EVENT_RETENTION_DAYS": "promised to consumers of GET /events",
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
"""Settings that have the same value in all stages, and why."""


def alarms() -> dict[str, Any]:
    return of_type("AWS::CloudWatch::Alarm")


def queues() -> dict[str, Any]:
    return of_type("AWS::SQS::Queue")


def dead_letter_queues() -> set[str]:
    """Queues of messages and invocations that were given up."""
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


def test_only_functions_that_need_postgres_or_redis_are_in_the_vpc() -> None:
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


def test_functions_outside_the_vpc_have_no_access_to_postgres_or_redis() -> None:
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


def test_only_migrations_and_audits_have_the_credentials_of_the_owner() -> None:
    for name in FUNCTIONS.keys() - DIRECT:
        assert not {"MIGRATION_URL", "MIGRATION_SECRET_ARN"} & variables(name).keys()
    for name in DIRECT:
        assert variables(name)["DATABASE_URL"] == ""


def test_each_setting_is_set_in_the_template_or_listed_with_a_reason() -> None:
    known = {setting.name.upper() for setting in fields(Settings)}
    configured = {name for function in FUNCTIONS for name in variables(function)}

    of_libraries = {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME"}
    assert configured - of_libraries == known - FIXED_SETTINGS.keys()
    assert known >= FIXED_SETTINGS.keys()


def test_composed_urls_have_no_password_and_no_options() -> None:
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


def test_log_retention_allows_only_values_of_cloudwatch() -> None:
    days = TEMPLATE["Parameters"]["LogRetentionDays"]

    assert days["Default"] in days["AllowedValues"]
    assert 2 not in days["AllowedValues"], "CloudWatch rejects it in the middle of the deployment"


def test_values_of_the_data_stacks_are_read_from_parameter_store() -> None:
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


def test_dead_letters_are_kept_as_long_as_documented() -> None:
    """A standard queue measures retention from the first send, so the attempts are part of it."""
    waits = sum(Settings().webhook_schedule_seconds) * 1.1
    kept_days = (queues()["DeadLetterQueue"]["MessageRetentionPeriod"] - waits) / 86_400
    (documented,) = re.findall(
        r"at least (\d+) days after it was given up", (ROOT / "docs/how-to/webhooks.md").read_text()
    )

    assert int(documented) == int(kept_days)
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


def test_queue_events_have_a_maximum_concurrency_and_report_failures_per_message() -> None:
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


def test_every_schedule_retries_and_has_a_dead_letter_queue() -> None:
    scheduled = list(schedules())

    assert len(scheduled) == len(made_of_type("AWS::Scheduler::Schedule")) == 2
    for schedule in scheduled:
        assert schedule["RetryPolicy"]["MaximumRetryAttempts"] >= 1
        assert schedule["RetryPolicy"]["MaximumEventAgeInSeconds"] == 60, (
            "then the next call is due"
        )
        assert schedule["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["FailedCallsQueue", "Arn"]}}
        assert schedule["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}


def test_schedules_are_created_after_the_first_migration() -> None:
    """A new stack has no traffic to shift, so the hook does not run."""
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


def test_failed_asynchronous_invocations_are_sent_to_a_queue() -> None:
    asynchronous = {
        name
        for name, function in FUNCTIONS.items()
        if any(event["Type"] == "ScheduleV2" for event in function.get("Events", {}).values())
    } | {"BeforeTrafficFunction"}

    assert {name for name, f in FUNCTIONS.items() if "EventInvokeConfig" in f} == asynchronous
    for name in asynchronous:
        invoked = FUNCTIONS[name]["EventInvokeConfig"]
        failed = invoked["DestinationConfig"]["OnFailure"]["Destination"]
        assert failed == {"Fn::GetAtt": ["FailedCallsQueue", "Arn"]}
        assert invoked["MaximumEventAgeInSeconds"] >= 60


def test_every_log_group_has_the_configured_retention() -> None:
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


def test_the_access_log_contains_no_token_and_names_the_stage() -> None:
    """A path contains the secret token of a reservation; its route does not."""
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


def test_unauthenticated_routes_have_separate_limits() -> None:
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


def test_function_alarms_watch_all_functions_with_traffic() -> None:
    for name in ("FunctionErrorsAlarm", "NewVersionErrorsAlarm", "ThrottlesAlarm"):
        assert set(named_in(alarms()[name]["Metrics"])) == FUNCTIONS.keys() - WITHOUT_TRAFFIC
    answering = {
        name
        for name, function in FUNCTIONS.items()
        if any(event["Type"] == "HttpApi" for event in function.get("Events", {}).values())
    }
    watched = set(named_in(alarms()["NewVersionServerErrorsAlarm"]["Metrics"]))
    assert watched - {"ServiceName"} == answering


def test_the_migration_has_a_shorter_timeout_than_the_hook() -> None:
    waiting = FUNCTIONS["BeforeTrafficFunction"]["Timeout"]

    assert FUNCTIONS["MigrateFunction"]["Timeout"] < 850 < waiting <= 900


def test_api_schedules_and_queues_invoke_the_alias_live() -> None:
    for schedule in made_of_type("AWS::Scheduler::Schedule").values():
        assert schedule["Properties"]["Target"]["Arn"]["Ref"].endswith("FunctionAliaslive")
    for permission in made_of_type("AWS::Lambda::Permission").values():
        assert permission["Properties"]["FunctionName"]["Ref"].endswith("FunctionAliaslive")
    mappings = made_of_type("AWS::Lambda::EventSourceMapping").values()
    assert [mapping["Properties"]["FunctionName"]["Ref"] for mapping in mappings] == [
        "WebhookFunctionAliaslive"
    ] * 2


def test_every_function_with_traffic_can_be_limited_and_scheduled_ones_to_two_at_least() -> None:
    limited = {name for name, f in FUNCTIONS.items() if "ReservedConcurrentExecutions" in f}
    copies = TEMPLATE["Parameters"]["ScheduleConcurrency"]["AllowedValues"]

    assert limited == FUNCTIONS.keys() - WITHOUT_TRAFFIC - {"WebhookFunction"}
    assert copies[0] == 0
    assert min(copies[1:]) >= 2
    for name in limited:
        limit = FUNCTIONS[name]["ReservedConcurrentExecutions"]["Fn::If"]
        assert limit[2] == {"Ref": "AWS::NoValue"}, "0 means no limit"


def test_resources_have_no_circular_dependencies() -> None:
    """Neither cfn-lint nor SAM checks the dependencies of update policies."""
    made = cloudformation()
    dependencies = {
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

    assert len(list(TopologicalSorter(dependencies).static_order())) == len(made)
    assert "ReserveFunctionAliaslive" in dependencies["Api"]


def test_sam_adds_no_roles() -> None:
    assert made_of_type("AWS::IAM::Role").keys() == of_type("AWS::IAM::Role").keys()


def test_the_outputs_have_descriptions_and_name_url_functions_and_queues() -> None:
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
def test_sam_local_runs_the_functions_with_your_own_servers(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    own = {"DatabaseUrl": "postgresql://app", "MigrationUrl": "postgresql://owner"}
    stacks, _ = SamLocalStackProvider.get_stacks(
        str(ROOT / "template.yaml"), parameter_overrides=own | {"RedisUrl": redis_url}
    )
    environments = {
        function.functionname: function.environment["Variables"]
        for function in SamFunctionProvider(stacks).get_all()
    }

    reserve, migrate = environments["ReserveFunction"], environments["MigrateFunction"]
    assert (reserve["DATABASE_URL"], reserve["DATABASE_AUTH"]) == ("postgresql://app", "url")
    assert (reserve["REDIS_URL"], reserve["REDIS_AUTH"]) == (redis_url, "url")
    assert (reserve["REDIS_CACHE_NAME"], reserve["REDIS_RESOURCE_TYPE"]) == ("", "")
    assert migrate["MIGRATION_URL"] == "postgresql://owner"
    assert migrate["MIGRATION_SECRET_ARN"] == ""
