"""Each role may do what the code of its function does, on what it does it to, and nothing else."""

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
"""An action, and the resource of the template that it is done to; empty, if it is none of those."""

ACTIONS = {
    ("sqs", "send_message_batch"): "sqs:SendMessage",
    ("sqs", "change_message_visibility_batch"): "sqs:ChangeMessageVisibility",
    ("sqs", "delete_message_batch"): "sqs:DeleteMessage",
    ("lambda", "invoke"): "lambda:InvokeFunction",
}
"""Of calls whose action is called otherwise than they are."""
OF_EVERY_FUNCTION = {
    ("logs:CreateLogStream", "Logs"),
    ("logs:PutLogEvents", "Logs"),
    ("xray:PutTelemetryRecords", ""),
    ("xray:PutTraceSegments", ""),
}
IN_THE_VPC = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
FOR_AN_SQS_EVENT = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
WITH_A_KEY = {("kms:Decrypt", ""), ("kms:GenerateDataKey", "")}
ON_EVERYTHING = {
    "cloudwatch:DescribeAlarms": "IAM cannot narrow it for alarms that are asked for by name",
    "ec2:DescribeNetworkInterfaces": "has no resources in IAM",
    "ec2:DescribeSubnets": "has no resources in IAM",
    "secretsmanager:BatchGetSecretValue": "has no resources in IAM: reading each secret is another",
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
    """Which queue or function a call goes to, the environment says."""
    value = variables(function).get(call.of_setting.upper(), {})
    return action(call), value.get("Ref", "")


def needed(function: str) -> Iterator[Right]:
    properties = FUNCTIONS[function]
    places = reached(app(function))
    modules = {"/".join(Path(module).with_suffix("").parts[-2:]) for module, _ in places}
    yield from OF_EVERY_FUNCTION
    for call in calls_of(app(function)):
        yield right_of_code(function, call)
        if call.method == "batch_get_secret_value":
            yield "secretsmanager:GetSecretValue", ""  # asked of each secret in the batch
    if "postgres/connection" in modules:
        yield "rds-db:connect", ""
    if "cache/connection" in modules:
        yield "elasticache:Connect", ""
    if "postgres/owner" in modules:
        yield "secretsmanager:GetSecretValue", ""
    if "VpcConfig" in properties:
        yield from ((name, "") for name in IN_THE_VPC)
    for event in properties.get("Events", {}).values():
        if event["Type"] == "SQS":
            queue = event["Properties"]["Queue"]["Fn::GetAtt"][0]
            yield from ((name, queue) for name in FOR_AN_SQS_EVENT)
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


def test_every_function_has_a_role_of_its_own() -> None:
    roles = [role_of(function) for function in FUNCTIONS]

    assert len(set(roles)) == len(FUNCTIONS)
    assert set(roles) | {"DeploymentRole", "ScheduleRole"} == set(ROLES)
    assert not any("Policies" in properties for properties in FUNCTIONS.values())


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_may_do_what_its_code_does_and_nothing_else(function: str) -> None:
    wanted = set(needed(function))
    if any(name.startswith("sqs:") for name, _ in wanted):
        wanted |= WITH_A_KEY  # if there is one

    assert set(granted(role_of(function))) == wanted


def test_the_code_of_a_function_is_followed_as_far_as_it_calls_aws() -> None:
    """Or the test above would find nothing, and be content."""
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


def test_every_client_of_aws_is_made_where_its_calls_are_found() -> None:
    """One that is kept under a name would call what nobody sees."""
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
                assert set(actions) <= ON_EVERYTHING.keys(), role


def test_of_all_network_interfaces_only_lambda_itself_may_have_its_way() -> None:
    allowed, seen, denied = RESOURCES["NetworkPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert set(allowed["Action"]) | set(seen["Action"]) == set(denied["Action"]) == IN_THE_VPC
    assert (denied["Effect"], denied["Resource"]) == ("Deny", "*")
    assert list(denied["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]


def test_the_app_logs_in_as_itself_alone() -> None:
    (postgres,) = RESOURCES["PostgresPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (cache,) = RESOURCES["CachePolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert postgres["Resource"]["Fn::Sub"].endswith(
        ":dbuser:${DatabaseProxyResourceId}/openreserve_app"
    )
    assert cache["Resource"] == [{"Ref": "CacheArn"}, {"Ref": "CacheUserArn"}]


def secrets_of_endpoints(stack: str, prefix: str) -> dict[str, tuple[str, list[str]]]:
    """Of each function with endpoints: how it names their secrets, and what it may do it to."""
    resources = transformed({"WebhookSecretsPrefix": prefix})["Resources"]
    known = {**ACCOUNT, "AWS::StackName": stack, "WebhookSecretsPrefix": prefix}
    found = {}
    for name in ("WebhookFunction", "EndpointsFunction"):
        environment = resources[name]["Properties"]["Environment"]["Variables"]
        (policy,) = resources[role_of(name)]["Properties"]["Policies"]
        allowed = [
            rendered(resource, known)
            for statement in policy["PolicyDocument"]["Statement"]
            if "secretsmanager:GetSecretValue" in statement["Action"]
            for resource in listed(statement["Resource"])
        ]
        found[name] = (rendered(environment["WEBHOOK_SECRETS_PREFIX"], known), allowed)
    return found


def arn(prefix: str) -> str:
    """Of the secret of an endpoint; Secrets Manager adds six characters to its name."""
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
def test_a_stage_can_read_the_endpoints_of_its_own_and_of_no_other_stage(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    ours, theirs = secrets_of_endpoints(*one), secrets_of_endpoints(*other)

    for name, (prefix, allowed) in ours.items():
        assert len(allowed) == 1
        assert fnmatchcase(arn(prefix), allowed[0]), "its own"
        assert not fnmatchcase(arn(theirs[name][0]), allowed[0]), "another's"
        assert not theirs[name][0].startswith(prefix), "nor does it list them as its own"


def test_both_functions_of_endpoints_name_their_secrets_alike() -> None:
    found = secrets_of_endpoints("openreserve-prod", "")

    assert {prefix for prefix, _ in found.values()} == {"openreserve-prod/webhooks/"}


@pytest.mark.parametrize("prefix", ["openreserve/dev", "a*/", "a?/", "/", "a//", "${x}/"])
def test_a_prefix_that_could_match_another_stage_is_refused(prefix: str) -> None:
    pattern = TEMPLATE["Parameters"]["WebhookSecretsPrefix"]["AllowedPattern"]

    assert re.fullmatch(pattern, "openreserve/dev/")
    assert not re.fullmatch(pattern, prefix)


def test_the_schedules_and_the_deployments_may_do_what_they_are_for() -> None:
    assert set(granted("ScheduleRole")) == {
        ("lambda:InvokeFunction", "ExpireFunction"),
        ("lambda:InvokeFunction", "ReconcileFunction"),
        ("sqs:SendMessage", "FailedCallsQueue"),
        *WITH_A_KEY,
    }
    assert ("lambda:InvokeFunction", "BeforeTrafficFunction") in set(granted("DeploymentRole"))
    shifted = [each["Fn::Sub"] for each in statements("DeploymentRole")[0]["Resource"]]
    published = [name for name, facts in FUNCTIONS.items() if "AutoPublishAlias" in facts]
    assert sorted(shifted) == sorted(f"${{{name}.Arn}}*" for name in published)


def test_a_role_is_assumed_by_one_service() -> None:
    others = {"DeploymentRole": "codedeploy", "ScheduleRole": "scheduler"}
    for name, role in ROLES.items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        service = others.get(name, "lambda")
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}, name
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")


def test_every_statement_says_what_it_is_for() -> None:
    for role in ROLES:
        names = [statement["Sid"] for policy in policies(role) for statement in policy["Statement"]]
        assert all(names), role
