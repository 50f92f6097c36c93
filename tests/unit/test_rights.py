"""Each role allows exactly the AWS calls of its function's code, on the resources they use."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_calls import PACKAGE, ROOT, Call, calls_of, clients_in, reached
from tests.support.sam_transform import rendered, transformed
from tests.support.stack import (
    FUNCTIONS,
    RESOURCES,
    TEMPLATE,
    listed,
    of_type,
    policies,
    role_of,
    statements,
    variables,
)

Right = tuple[str, str]
"""An action and the template resource it is allowed on; empty for a resource outside."""

ACTIONS = {
    ("sqs", "send_message_batch"): "sqs:SendMessage",
    ("sqs", "change_message_visibility_batch"): "sqs:ChangeMessageVisibility",
    ("sqs", "delete_message_batch"): "sqs:DeleteMessage",
    ("lambda", "invoke"): "lambda:InvokeFunction",
}
"""Calls whose IAM action has another name."""
BASIC_RIGHTS = {
    ("logs:CreateLogStream", "Logs"),
    ("logs:PutLogEvents", "Logs"),
    ("xray:PutTelemetryRecords", ""),
    ("xray:PutTraceSegments", ""),
}
VPC_RIGHTS = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
SQS_EVENT_RIGHTS = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
KMS_RIGHTS = {("kms:Decrypt", ""), ("kms:GenerateDataKey", "")}
UNRESTRICTED = {
    "cloudwatch:DescribeAlarms": "IAM cannot restrict it to alarms by name",
    "ec2:DescribeNetworkInterfaces": "has no resources in IAM",
    "ec2:DescribeSubnets": "has no resources in IAM",
    "secretsmanager:BatchGetSecretValue": "reading each secret is a separate action",
    "secretsmanager:ListSecrets": "has no resources in IAM",
    "xray:PutTelemetryRecords": "has no resources in IAM",
    "xray:PutTraceSegments": "has no resources in IAM",
}
ACCOUNT = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
}
ROLES = of_type("AWS::IAM::Role")


def app(function: str) -> Path:
    return ROOT / str(FUNCTIONS[function]["CodeUri"]) / "app.py"


def action(call: Call) -> str:
    name = "".join(word.capitalize() for word in call.method.split("_"))
    return ACTIONS.get((call.service, call.method), f"{call.service}:{name}")


def right_of_code(function: str, call: Call) -> Right:
    """The environment variable of a call names its queue or function."""
    value = variables(function).get(call.of_setting.upper(), {})
    return action(call), value.get("Ref", "")


def needed(function: str) -> Iterator[Right]:
    properties = FUNCTIONS[function]
    places = reached(app(function))
    modules = {"/".join(Path(module).with_suffix("").parts[-2:]) for module, _ in places}
    yield from BASIC_RIGHTS
    for call in calls_of(app(function)):
        yield right_of_code(function, call)
        if call.method == "batch_get_secret_value":
            yield "secretsmanager:GetSecretValue", ""  # checked for each secret in the batch
    if "postgres/connection" in modules:
        yield "rds-db:connect", ""
    if "cache/connection" in modules:
        yield "elasticache:Connect", ""
    if "postgres/owner" in modules:
        yield "secretsmanager:GetSecretValue", ""
    if "VpcConfig" in properties:
        yield from ((name, "") for name in VPC_RIGHTS)
    for event in properties.get("Events", {}).values():
        if event["Type"] == "SQS":
            queue = event["Properties"]["Queue"]["Fn::GetAtt"][0]
            yield from ((name, queue) for name in SQS_EVENT_RIGHTS)
    if "EventInvokeConfig" in properties:
        failed = properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"]
        yield "sqs:SendMessage", failed["Fn::GetAtt"][0]


def granted(role: str) -> Iterator[Right]:
    for statement in statements(role):
        if statement["Effect"] == "Allow":
            for name in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield name, _logical_id(resource)


def _logical_id(resource: Any) -> str:
    match resource:
        case {"Fn::GetAtt": [str(name), "Arn"]}:
            return name
        case {"Ref": str(name)} if name in RESOURCES or name.endswith(".Alias"):
            return name.removesuffix(".Alias")
    return ""


def test_every_function_has_its_own_role() -> None:
    roles = [role_of(function) for function in FUNCTIONS]

    assert len(set(roles)) == len(FUNCTIONS)
    assert set(roles) | {"DeploymentRole", "ScheduleRole"} == set(ROLES)
    assert not any("Policies" in properties for properties in FUNCTIONS.values())


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_has_exactly_the_rights_that_its_code_needs(function: str) -> None:
    required = set(needed(function))
    if any(name.startswith("sqs:") for name, _ in required):
        required |= KMS_RIGHTS  # if a key is configured

    assert set(granted(role_of(function))) == required


def test_the_aws_calls_of_a_function_are_detected() -> None:
    """Otherwise the test above would pass without checking anything."""
    assert {action(call) for call in calls_of(app("ReserveFunction"))} == set()
    assert {right_of_code("ExpireFunction", call) for call in calls_of(app("ExpireFunction"))} == {
        ("sqs:SendMessage", "WebhookQueue")
    }
    assert {call.method for call in calls_of(app("WebhookFunction"))} == {
        "batch_get_secret_value",
        "change_message_visibility",
        "list_secrets",
        "send_message_batch",
        "tag_resource",
    }
    assert len(calls_of(app("EndpointsFunction"))) == 11


def test_every_aws_client_is_created_where_its_calls_are_detected() -> None:
    """Calls of a client in a variable would not be detected."""
    for path in [*ROOT.glob("functions/*/app.py"), *PACKAGE.rglob("*.py")]:
        text = path.read_text()
        if "cli" not in path.parts and "client" not in path.parts:
            assert text.count("boto3.client(") == len(clients_in(path)), path
            assert "boto3.resource" not in text, path
            assert not re.search(r"= boto3\.client\([^()]*\)$", text, re.MULTILINE), path


def test_no_action_has_a_wildcard_and_a_resource_only_where_iam_cannot_name_one() -> None:
    for role in ROLES:
        for statement in statements(role):
            actions = listed(statement["Action"])
            assert not any("*" in name for name in actions), role
            assert "NotAction" not in statement, role
            assert "NotResource" not in statement, role
            if "*" in listed(statement["Resource"]) and statement["Effect"] == "Allow":
                assert set(actions) <= UNRESTRICTED.keys(), role


def test_only_lambda_itself_may_manage_network_interfaces() -> None:
    managed, described, denied = RESOURCES["NetworkPolicy"]["Properties"]["PolicyDocument"][
        "Statement"
    ]

    assert set(managed["Action"]) | set(described["Action"]) == set(denied["Action"]) == VPC_RIGHTS
    assert (denied["Effect"], denied["Resource"]) == ("Deny", "*")
    assert list(denied["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]


def test_functions_may_log_in_only_as_the_app() -> None:
    (postgres,) = RESOURCES["PostgresPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (cache,) = RESOURCES["CachePolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert postgres["Resource"]["Fn::Sub"].endswith(
        ":dbuser:${DatabaseProxyResourceId}/openreserve_app"
    )
    assert cache["Resource"] == [{"Ref": "CacheArn"}, {"Ref": "CacheUserArn"}]


def secrets_of_endpoints(stack: str, prefix: str) -> dict[str, tuple[str, list[str]]]:
    """Per function that uses endpoints: the prefix of their secrets, and the allowed ARNs."""
    resources = transformed({"WebhookSecretsPrefix": prefix})["Resources"]
    known = {**ACCOUNT, "AWS::StackName": stack, "WebhookSecretsPrefix": prefix}
    secrets = {}
    for name in ("WebhookFunction", "EndpointsFunction"):
        environment = resources[name]["Properties"]["Environment"]["Variables"]
        (policy,) = resources[role_of(name)]["Properties"]["Policies"]
        allowed = [
            rendered(resource, known)
            for statement in policy["PolicyDocument"]["Statement"]
            if "secretsmanager:GetSecretValue" in statement["Action"]
            for resource in listed(statement["Resource"])
        ]
        secrets[name] = (rendered(environment["WEBHOOK_SECRETS_PREFIX"], known), allowed)
    return secrets


def arn(prefix: str) -> str:
    """The ARN of an endpoint's secret; Secrets Manager appends six characters to its name."""
    return f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{prefix}shop-AbCdEf"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("openreserve-dev", ""), ("openreserve-dev2", "")),
        (("openreserve-dev2", ""), ("openreserve-dev", "")),
        (("a", "openreserve/dev/"), ("b", "openreserve/dev2/")),
        (("a", "openreserve/dev2/"), ("b", "openreserve/dev/")),
        (("openreserve-dev", ""), ("b", "openreserve/webhooks/")),
    ],
)
def test_a_stage_can_read_only_its_own_endpoints(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    ours, theirs = secrets_of_endpoints(*one), secrets_of_endpoints(*other)

    for name, (prefix, allowed) in ours.items():
        assert len(allowed) == 1
        assert fnmatchcase(arn(prefix), allowed[0]), "the stage's own secret"
        assert not fnmatchcase(arn(theirs[name][0]), allowed[0]), "the secret of another stage"
        assert not theirs[name][0].startswith(prefix), "the other prefix is not a sub-prefix"


def test_both_functions_use_the_same_prefix_for_secrets() -> None:
    secrets = secrets_of_endpoints("openreserve-prod", "")

    assert {prefix for prefix, _ in secrets.values()} == {"openreserve-prod/webhooks/"}


@pytest.mark.parametrize("prefix", ["openreserve/dev", "a*/", "a?/", "/", "a//", "${x}/"])
def test_a_prefix_that_could_match_another_stage_is_rejected(prefix: str) -> None:
    pattern = TEMPLATE["Parameters"]["WebhookSecretsPrefix"]["AllowedPattern"]

    assert re.fullmatch(pattern, "openreserve/dev/")
    assert not re.fullmatch(pattern, prefix)


def test_the_rights_of_schedules_and_deployments() -> None:
    assert set(granted("ScheduleRole")) == {
        ("lambda:InvokeFunction", "ExpireFunction"),
        ("lambda:InvokeFunction", "ReconcileFunction"),
        ("sqs:SendMessage", "FailedCallsQueue"),
        *KMS_RIGHTS,
    }
    assert ("lambda:InvokeFunction", "BeforeTrafficFunction") in set(granted("DeploymentRole"))
    shifted = [each["Fn::Sub"] for each in statements("DeploymentRole")[0]["Resource"]]
    published = [name for name, facts in FUNCTIONS.items() if "AutoPublishAlias" in facts]
    assert sorted(shifted) == sorted(f"${{{name}.Arn}}*" for name in published)


def test_each_role_can_be_assumed_by_one_service() -> None:
    others = {"DeploymentRole": "codedeploy", "ScheduleRole": "scheduler"}
    for name, role in ROLES.items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        service = others.get(name, "lambda")
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}, name
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")


def test_every_statement_has_a_sid() -> None:
    for role in ROLES:
        names = [statement["Sid"] for policy in policies(role) for statement in policy["Statement"]]
        assert all(names), role
