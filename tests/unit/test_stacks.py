"""The stacks beside the functions': what calls what, what survives, what they tell others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from infra.local.template.intrinsics import Intrinsic, Loader

ROOT = Path(__file__).parents[2]
NAMES = ("network", "database", "cache")
Properties = dict[str, Any]


def load(path: str) -> dict[str, Any]:
    document = (ROOT / path).read_text()
    return dict(yaml.load(document, Loader=Loader))  # noqa: S506 - a SafeLoader


STACKS = {name: load(f"infra/{name}.yaml") for name in NAMES}
APP = load("template.yaml")
RESOURCES: dict[str, dict[str, Any]] = {
    f"{stack}.{name}": resource
    for stack, document in STACKS.items()
    for name, resource in document["Resources"].items()
}

FLOWS = {
    ("Functions", "Proxy", 5432, 5432),
    ("Proxy", "Database", 5432, 5432),
    ("Migrations", "Database", 5432, 5432),
    ("Functions", "Cache", 6379, 6380),
    ("Functions", "Endpoints", 443, 443),
    ("Migrations", "Endpoints", 443, 443),
}
NOWHERE = "127.0.0.1/32"

CONTRACT = {
    "network/vpc-id",
    "network/private-subnet-ids",
    "network/functions-security-group-id",
    "network/migrations-security-group-id",
    "network/proxy-security-group-id",
    "network/database-security-group-id",
    "network/cache-security-group-id",
    "database/proxy-host",
    "database/proxy-name",
    "database/proxy-resource-id",
    "database/host",
    "database/secret-arn",
    "database/generation",
    "cache/host",
    "cache/name",
    "cache/arn",
    "cache/user-arn",
    "cache/resource-type",
}

TRUTH = {"database.Cluster": "Snapshot", "database.Instance": "Snapshot", "database.Key": "Retain"}
KEEPS_SOMETHING = {
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::ServerlessCache",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
}
WAYS_OUT = {
    "AWS::EC2::EIP",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::NatGateway",
    "AWS::EC2::Route",
    "AWS::EC2::TransitGatewayAttachment",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::EC2::VPCPeeringConnection",
}
GATEWAY_SECONDS = 30


def of_type(*wanted: str) -> dict[str, Properties]:
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] in wanted
    }


def inside(value: Any) -> Iterator[Any]:
    """The value and all that is in it."""
    yield value
    if isinstance(value, Intrinsic):
        yield from inside(value.argument)
    elif isinstance(value, dict):
        for part in value.values():
            yield from inside(part)
    elif isinstance(value, list):
        for part in value:
            yield from inside(part)


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in RESOURCES.items():
        for part in inside(resource):
            if isinstance(part, dict) and "Effect" in part:
                yield name, part


def group(reference: Intrinsic) -> str:
    assert reference.tag == "Ref"
    return str(reference.argument).removesuffix("SecurityGroup")


def parameter_names() -> set[str]:
    return {
        properties["Name"].argument.removeprefix("/openreserve/${Stage}/")
        for properties in of_type("AWS::SSM::Parameter").values()
    }


##### Who may call whom #####


def test_every_flow_leaves_one_group_and_enters_another() -> None:
    def ports(rule: Properties) -> tuple[int, int]:
        assert rule["IpProtocol"] == "tcp"
        assert rule["Description"]
        return rule["FromPort"], rule["ToPort"]

    leaving = {
        (group(rule["GroupId"]), group(rule["DestinationSecurityGroupId"]), *ports(rule))
        for rule in of_type("AWS::EC2::SecurityGroupEgress").values()
    }
    entering = {
        (group(rule["SourceSecurityGroupId"]), group(rule["GroupId"]), *ports(rule))
        for rule in of_type("AWS::EC2::SecurityGroupIngress").values()
    }

    assert leaving == FLOWS
    assert entering == FLOWS


def test_nothing_is_open_but_the_flows() -> None:
    groups = of_type("AWS::EC2::SecurityGroup")

    assert {name.removeprefix("network.").removesuffix("SecurityGroup") for name in groups} == {
        end for source, destination, *_ in FLOWS for end in (source, destination)
    }
    for properties in groups.values():
        assert "SecurityGroupIngress" not in properties
        (rule,) = properties["SecurityGroupEgress"]
        assert rule["CidrIp"] == NOWHERE
    for name in NAMES:
        text = (ROOT / f"infra/{name}.yaml").read_text()
        assert "0.0.0.0/0" not in text
        assert "::/0" not in text


def test_there_is_no_way_to_the_internet() -> None:
    assert not of_type(*WAYS_OUT)
    subnets = of_type("AWS::EC2::Subnet")
    assert all(subnet["MapPublicIpOnLaunch"] is False for subnet in subnets.values())
    instances = of_type("AWS::RDS::DBInstance")
    assert all(instance["PubliclyAccessible"] is False for instance in instances.values())


def test_what_is_in_the_vpc_is_in_a_group_of_ours() -> None:
    wanted = {
        "database.Cluster": ("VpcSecurityGroupIds", "DatabaseSecurityGroupId"),
        "database.Instance": ("VPCSecurityGroups", "DatabaseSecurityGroupId"),
        "database.Proxy": ("VpcSecurityGroupIds", "ProxySecurityGroupId"),
        "cache.ServerlessCache": ("SecurityGroupIds", "CacheSecurityGroupId"),
        "cache.Nodes": ("SecurityGroupIds", "CacheSecurityGroupId"),
        "network.SqsEndpoint": ("SecurityGroupIds", "EndpointsSecurityGroup"),
        "network.SecretsEndpoint": ("SecurityGroupIds", "EndpointsSecurityGroup"),
    }

    assert wanted == {
        name: (key, properties[key][0].argument)
        for name, resource in RESOURCES.items()
        for properties in (resource.get("Properties", {}),)
        for key in properties
        if key in {"SecurityGroupIds", "VpcSecurityGroupIds", "VPCSecurityGroups"}
    }


def test_the_subnets_are_in_zones_of_their_own() -> None:
    subnets = of_type("AWS::EC2::Subnet")
    always = [name for name in subnets if "Condition" not in RESOURCES[name]]

    for key in "AvailabilityZone", "CidrBlock":
        picked = [subnet[key].argument[0] for subnet in subnets.values()]
        assert picked == [0, 1, 2]
    assert len(always) == 2


def test_functions_are_in_the_groups_that_the_flows_are_for() -> None:
    """Once template.yaml has its functions in the VPC: those that migrate go around the proxy."""
    for name, function in APP["Resources"].items():
        network = function.get("Properties", {}).get("VpcConfig")
        if function["Type"] != "AWS::Serverless::Function" or network is None:
            continue
        (reference,) = network["SecurityGroupIds"]
        whose = "migrations" if name in {"AuditFunction", "MigrateFunction"} else "functions"
        default = APP["Parameters"][reference.argument]["Default"]
        assert default == f"/openreserve/dev/network/{whose}-security-group-id", name


def test_endpoints_let_this_account_do_what_the_functions_do_and_no_more() -> None:
    allowed = {}
    for name, endpoint in of_type("AWS::EC2::VPCEndpoint").items():
        (statement,) = endpoint["PolicyDocument"]["Statement"]
        allowed[name] = statement["Action"]
        assert statement["Resource"].argument.count("${AWS::AccountId}") == 1
        assert set(statement["Condition"]["StringEquals"]) == {"aws:PrincipalAccount"}

    assert allowed == {
        "network.SqsEndpoint": "sqs:SendMessage",
        "network.SecretsEndpoint": "secretsmanager:GetSecretValue",
    }


##### What survives #####


def test_all_that_keeps_something_says_what_becomes_of_it() -> None:
    kept = of_type(*KEEPS_SOMETHING)
    assert kept

    for name in kept:
        assert RESOURCES[name]["DeletionPolicy"] == TRUTH.get(name, "Delete"), name
        replaced = "Retain" if name in TRUTH else "Delete"
        assert RESOURCES[name]["UpdateReplacePolicy"] == replaced, name


def test_no_data_is_in_the_stack_of_the_functions() -> None:
    types = {resource["Type"] for resource in APP["Resources"].values()}

    assert not {kind for kind in types if kind.startswith(("AWS::RDS", "AWS::ElastiCache"))}
    assert "AWS::EC2::VPC" not in types


def test_all_data_is_encrypted_and_backed_up() -> None:
    for name in "database.Cluster", "database.Instance":
        properties = RESOURCES[name]["Properties"]
        assert properties["StorageEncrypted"] is True
        assert properties["KmsKeyId"].argument[0] == "MakesKey"
        assert properties["BackupRetentionPeriod"].argument == "BackupRetentionDays"
        assert properties["DeletionProtection"].argument == "DeletionProtection"
        assert properties["DeleteAutomatedBackups"] is False
    nodes = RESOURCES["cache.Nodes"]["Properties"]
    assert nodes["AtRestEncryptionEnabled"] is True
    parameters = STACKS["database"]["Parameters"]
    assert parameters["BackupRetentionDays"]["MinValue"] == 1
    assert parameters["DeletionProtection"]["Default"] == "true"
    assert RESOURCES["database.Key"]["Properties"]["EnableKeyRotation"] is True


def test_every_log_group_forgets() -> None:
    for name, properties in of_type("AWS::Logs::LogGroup").items():
        assert properties["RetentionInDays"].argument == "LogRetentionDays", name


def test_every_log_that_the_servers_write_has_a_group() -> None:
    """AWS would make it otherwise, and keep it for ever."""
    groups = {
        name.argument
        for properties in of_type("AWS::Logs::LogGroup").values()
        for name in branches(properties["LogGroupName"])
    }

    for kind, name in ("cluster", "Cluster"), ("instance", "Instance"):
        for log in RESOURCES[f"database.{name}"]["Properties"]["EnableCloudwatchLogsExports"]:
            for generation in "", "-g${Generation}":
                assert f"/aws/rds/{kind}/openreserve-${{Stage}}{generation}/{log}" in groups
    assert "/aws/rds/proxy/openreserve-${Stage}" in groups


##### What can change later #####


CHANGES_NEVER = {"Stage", "KmsKeyArn"}
"""Parameters whose description says that they cannot change."""
FIRST_TWO = [Intrinsic("Select", [n, Intrinsic("Ref", "PrivateSubnetIds")]) for n in (0, 1)]


def branches(value: Any) -> list[Any]:
    """Both values of an `!If`; of anything else, itself."""
    return value.argument[1:] if isinstance(value, Intrinsic) and value.tag == "If" else [value]


RESTORE = {"Generation", "RestoreFrom", "RestoreTo"}
"""Parameters that replace the database, by one with another name: they only change together."""


def test_a_restore_replaces_the_database_under_another_name_and_retains_the_one_before() -> None:
    for name, source, time in (
        ("Cluster", "SourceDbClusterResourceId", "RestoreToTime"),
        ("Instance", "SourceDbiResourceId", "RestoreTime"),
    ):
        resource = RESOURCES[f"database.{name}"]
        properties = resource["Properties"]
        restored = [properties[key].argument for key in (source, time)]
        nothing = Intrinsic("Ref", "AWS::NoValue")

        assert resource["UpdateReplacePolicy"] == "Retain"
        assert [names.argument for names in branches(properties[f"DB{name}Identifier"])] == [
            "openreserve-${Stage}-g${Generation}",
            "openreserve-${Stage}",
        ]
        assert restored == [
            ["IsRestored", Intrinsic("Ref", "RestoreFrom"), nothing],
            ["IsRestored", Intrinsic("Ref", "RestoreTo"), nothing],
        ]
        assert properties["MasterUsername"].argument[:2] == ["IsRestored", nothing]
        assert properties["ManageMasterUserPassword"] is True


def test_a_restore_that_is_not_whole_is_refused_before_anything_is_replaced() -> None:
    (rule,) = STACKS["database"]["Rules"].values()

    assert set(parameters_in(rule["RuleCondition"])) == RESTORE
    assert {name for one in rule["Assertions"] for name in parameters_in(one["Assert"])} == RESTORE


def test_no_change_of_a_parameter_replaces_what_has_a_fixed_name() -> None:
    """CloudFormation would make the new one first, and fail: the name is taken."""
    looked_at = set()
    for name, resource in RESOURCES.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
        named = {path.rpartition("/")[2] for path in schema["primaryIdentifier"]}
        properties = resource.get("Properties", {})
        if not named & properties.keys():
            continue
        for path in schema.get("createOnlyProperties", ()):
            value = properties.get(path.split("/")[2])
            looked_at.add(name)
            if value == FIRST_TWO:
                continue  # ZoneCount only adds behind them
            given = set(parameters_in(value)) & STACKS[name.split(".")[0]]["Parameters"].keys()
            renamed = RESTORE & {p for key in named for p in parameters_in(properties.get(key))}
            assert given <= CHANGES_NEVER | (RESTORE if renamed else set()), f"{name}: {path}"

    assert looked_at >= {"database.Proxy", "database.Cluster", "cache.ServerlessCache"}


def parameters_in(value: Any) -> Iterator[str]:
    """The names that a value refers to."""
    match value:
        case Intrinsic("Ref", str(name)):
            yield name
        case Intrinsic("Sub", argument):
            yield from re.findall(r"\$\{(\w+)", str(argument))
        case Intrinsic(_, argument):
            yield from parameters_in(argument)
        case dict():
            for part in value.values():
                yield from parameters_in(part)
        case list():
            for part in value:
                yield from parameters_in(part)


def test_logs_that_services_deliver_share_one_entry_of_the_accounts_policy() -> None:
    """Else each is named in a policy of 5,120 characters."""
    for group in (RESOURCES["cache.NodeLogs"], APP["Resources"]["ApiLogs"]):
        assert group["Properties"]["LogGroupName"].argument.startswith("/aws/vendedlogs/")


##### Who gets in #####


def test_only_keys_are_all_of_the_accounts() -> None:
    """No action, and no resource but in a key's own policy, is a wildcard."""
    for name, statement in statements():
        actions = statement["Action"]
        actions = [actions] if isinstance(actions, str) else actions
        is_key = name == "database.Key"
        if not (is_key and statement["Sid"] == "DelegateToIam"):
            assert not [action for action in actions if "*" in action], name
        assert is_key or statement.get("Resource") != "*", name


def test_only_the_owner_has_a_password_which_rds_manages() -> None:
    for name in "database.Cluster", "database.Instance":
        properties = RESOURCES[name]["Properties"]
        assert properties["ManageMasterUserPassword"] is True
        assert "MasterUserPassword" not in properties
        assert re.fullmatch("[a-z][a-z0-9]{0,15}", branches(properties["MasterUsername"])[-1])
        assert properties["EnableIAMDatabaseAuthentication"] is True
        named = properties.get("DatabaseName", properties.get("DBName"))
        assert branches(named)[-1] == "openreserve"


def test_the_proxy_takes_tokens_over_tls_and_logs_in_as_the_application_alone() -> None:
    proxy = RESOURCES["database.Proxy"]["Properties"]
    (policy,) = RESOURCES["database.ProxyRole"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]

    assert proxy["RequireTLS"] is True
    assert proxy["DefaultAuthScheme"] == "IAM_AUTH"
    assert "Auth" not in proxy
    assert proxy["DebugLogging"] is False
    assert statement["Action"] == "rds-db:connect"
    arn, given = statement["Resource"].argument
    assert arn.endswith(":dbuser:${Database}-*/openreserve_app"), "that of a restore, too"
    assert given["Database"].argument == ["IsAurora", "cluster", "db"]


def test_postgres_refuses_what_is_not_encrypted_and_logs_no_tokens() -> None:
    cluster = RESOURCES["database.ClusterParameters"]["Properties"]["Parameters"]
    instance = RESOURCES["database.InstanceParameters"]["Properties"]["Parameters"]

    assert cluster == instance
    assert cluster["rds.force_ssl"] == "1"
    assert cluster["log_parameter_max_length"] == "0"
    assert cluster["log_parameter_max_length_on_error"] == "0"


def test_a_cache_of_nodes_is_spoken_to_over_tls_by_users_alone() -> None:
    nodes = RESOURCES["cache.Nodes"]["Properties"]

    assert nodes["TransitEncryptionEnabled"] is True
    assert nodes["TransitEncryptionMode"] == "required"
    assert nodes["ClusterMode"] == "disabled"
    for name in "cache.Nodes", "cache.ServerlessCache":
        assert "UserGroup" in {
            part.argument
            for key in ("UserGroupId", "UserGroupIds")
            for part in inside(RESOURCES[name]["Properties"].get(key))
            if isinstance(part, Intrinsic)
        }


##### What fits together #####


def test_a_call_that_waits_for_a_connection_is_answered_before_the_caller_times_out() -> None:
    pool = RESOURCES["database.ProxyPool"]["Properties"]["ConnectionPoolConfigurationInfo"]
    parameter = STACKS["database"]["Parameters"][pool["ConnectionBorrowTimeout"].argument]
    timeouts = [
        APP["Globals"]["Function"]["Timeout"],
        *(
            resource["Properties"]["Timeout"]
            for resource in APP["Resources"].values()
            if resource["Type"] == "AWS::Serverless::Function"
            and "Timeout" in resource["Properties"]
        ),
    ]

    assert 0 < parameter["Default"] <= parameter["MaxValue"] < min(*timeouts, GATEWAY_SECONDS)


def test_aurora_never_pauses() -> None:
    """It would not: the proxy is always connected."""
    assert STACKS["database"]["Parameters"]["AcuMin"]["MinValue"] > 0


def test_the_stacks_write_down_what_the_contract_says() -> None:
    types = {
        properties["Name"].argument.rpartition("/")[2]: properties["Type"]
        for properties in of_type("AWS::SSM::Parameter").values()
    }

    assert parameter_names() == CONTRACT
    assert {name for name, kind in types.items() if kind != "String"} == {"private-subnet-ids"}
    assert types["private-subnet-ids"] == "StringList"


@pytest.mark.parametrize("name", [*NAMES, "app"])
def test_every_parameter_that_a_stack_reads_is_written_by_another(name: str) -> None:
    document = STACKS.get(name, APP)

    for parameter in document["Parameters"].values():
        if parameter["Type"].startswith("AWS::SSM::Parameter::Value<"):
            assert parameter["Default"].removeprefix("/openreserve/dev/") in parameter_names()


def test_a_stack_has_no_parameter_or_condition_without_use() -> None:
    for document in STACKS.values():
        used = {part for part in inside(document) if isinstance(part, str)}
        text = " ".join(used)
        for name in document["Parameters"]:
            assert name in used or f"${{{name}}}" in text, name
        for name in document.get("Conditions", {}):
            assert name in used, name


def test_every_alarm_says_what_to_do() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert alarms

    for name, alarm in alarms.items():
        assert alarm["AlarmActions"].argument[0] == "HasAlarmTopic", name
        assert len(alarm["AlarmDescription"].split()) > 15, name
        assert alarm["TreatMissingData"] in {"notBreaching", "missing"}, name


def test_both_kinds_of_server_are_watched() -> None:
    watched = {
        part
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        for part in inside(alarm)
        if isinstance(part, str)
    }

    assert watched >= {
        "ACUUtilization",
        "AuroraReplicaLagMaximum",
        "AuthenticationFailures",
        "CPUUtilization",
        "CommandAuthorizationFailures",
        "DatabaseConnections",
        "DatabaseConnectionsSetupFailed",
        "EngineCPUUtilization",
        "Evictions",
        "FreeStorageSpace",
        "FreeableMemory",
        "MaximumUsedTransactionIDs",
        "ReplicationLag",
        "ThrottledCmds",
    }


@pytest.mark.parametrize(
    ("stack", "namespace", "metric", "dimensions"),
    [
        (
            "database",
            "AWS/RDS",
            "IamDbAuthConnectionFailureThrottling",
            ["DBClusterIdentifier", "DBInstanceIdentifier"],
        ),
        (
            "cache",
            "AWS/ElastiCache",
            "IamAuthenticationThrottling",
            ["clusterId", "CacheClusterId"],
        ),
    ],
)
def test_logins_that_iam_throttles_ring_an_alarm(
    stack: str, namespace: str, metric: str, dimensions: list[str]
) -> None:
    alarm = RESOURCES[f"{stack}.IamThrottlingAlarm"]["Properties"]
    _, one, other = alarm["Dimensions"].argument

    assert (alarm["Namespace"], alarm["MetricName"]) == (namespace, metric)
    assert [each["Name"] for each in (*one, *other)] == dimensions
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Sum", 1)
