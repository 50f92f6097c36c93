"""A restore to a point in time: its AWS calls, checked against botocore's models, in order."""

import io
import json
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from samcli.commands.deploy.deploy_context import DeployContext
from samcli.yamlhelper import yaml_parse

from infra.restore.__main__ import (
    immediate_deployment,
    main,
    pause,
    restore,
    restored_parameters,
    resume,
    update,
    verify,
)
from infra.restore.stage import RestoreError, Stage

ROOT = Path(__file__).parents[2]
TO = datetime(2026, 5, 3, 10, 20, 30, tzinfo=UTC)
RESTORED = {
    "Generation": "2",
    "RestoreFrom": "cluster-ABC123",
    "RestoreTo": "2026-05-03T10:20:30Z",
}
APP = {"DeploymentHash": "0" * 64, "DeploymentAlarms": "watched", "DeploymentType": "Canary"}
DATABASE = {"Stage": "prod", "Generation": "1", "RestoreFrom": "", "RestoreTo": ""}
FUNCTIONS = ("Reserve", "Stock", "Migrate", "Audit", "BeforeTraffic")


class Account:
    """Stubbed AWS clients: they validate calls by AWS's models and return queued responses."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Stubber]] = {}
        self.calls: list[tuple[str, Any]] = []

    def client(self, service: str) -> Any:
        if service not in self._made:
            client: Any = boto3.client(  # type: ignore[call-overload]
                service,
                region_name="eu-central-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",  # noqa: S106 - a dummy
            )
            stub = Stubber(client)
            stub.activate()
            client.meta.events.register("before-parameter-build", self._note)
            self._made[service] = client, stub
        return self._made[service][0]

    def _note(self, params: Any, model: Any, **_: Any) -> None:
        self.calls.append((model.name, dict(params)))

    def answers(self, service: str, method: str, answer: Any) -> None:
        self.client(service)
        self._made[service][1].add_response(method, answer)

    def refuses(self, service: str, method: str, code: str, message: str) -> None:
        self.client(service)
        self._made[service][1].add_client_error(method, code, message)

    def assert_all_called(self) -> None:
        for _, stub in self._made.values():
            stub.assert_no_pending_responses()

    def calls_of(self, operation: str) -> list[Any]:
        return [params for name, params in self.calls if name == operation]

    def stack(self, parameters: dict[str, str], status: str = "UPDATE_COMPLETE") -> None:
        given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
        description = {
            "StackName": "s",
            "CreationTime": TO,
            "StackStatus": status,
            "Parameters": given,
        }
        self.answers("cloudformation", "describe_stacks", {"Stacks": [description]})

    def functions(self) -> None:
        self._resources(
            *((f"{name}Function", f"prod-{name}", "AWS::Lambda::Function") for name in FUNCTIONS),
            ("Api", "abc", "AWS::ApiGatewayV2::Api"),
        )

    def cluster(self) -> None:
        self._resources(("Cluster", "openreserve-prod", "AWS::RDS::DBCluster"))
        cluster = {
            "DbClusterResourceId": "cluster-ABC123",
            "EarliestRestorableTime": datetime(2026, 5, 1, tzinfo=UTC),
            "LatestRestorableTime": datetime(2026, 5, 4, tzinfo=UTC),
        }
        self.answers("rds", "describe_db_clusters", {"DBClusters": [cluster]})

    def instance(self) -> None:
        self._resources(("Instance", "openreserve-prod", "AWS::RDS::DBInstance"))
        latest = datetime(2026, 5, 4, tzinfo=UTC)
        instance = {"DbiResourceId": "db-ABC123", "LatestRestorableTime": latest}
        self.answers("rds", "describe_db_instances", {"DBInstances": [instance]})
        window = {"RestoreWindow": {"EarliestTime": datetime(2026, 5, 1, tzinfo=UTC)}}
        backups = {"DBInstanceAutomatedBackups": [window]}
        self.answers("rds", "describe_db_instance_automated_backups", backups)

    def _resources(self, *rows: tuple[str, str, str]) -> None:
        summaries = [
            {
                "LogicalResourceId": logical,
                "PhysicalResourceId": physical,
                "ResourceType": kind,
                "LastUpdatedTimestamp": TO,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for logical, physical, kind in rows
        ]
        self.answers(
            "cloudformation", "list_stack_resources", {"StackResourceSummaries": summaries}
        )

    def paused(self) -> None:
        self.functions()
        self.answers("lambda", "get_function_concurrency", {"ReservedConcurrentExecutions": 7})
        self.answers("lambda", "get_function_concurrency", {})
        for _ in range(2):
            self.answers("lambda", "put_function_concurrency", {})

    def updated(self, parameters: dict[str, str]) -> None:
        self.stack(parameters)
        self.answers("cloudformation", "update_stack", {"StackId": "s"})
        self.stack(parameters, "UPDATE_IN_PROGRESS")
        self.stack(parameters, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")

    def invoked(self, answer: Any, error: str = "") -> None:
        detail = {
            "LogicalResourceId": "x",
            "PhysicalResourceId": "prod-x",
            "ResourceType": "AWS::Lambda::Function",
            "LastUpdatedTimestamp": TO,
            "ResourceStatus": "CREATE_COMPLETE",
        }
        self.answers("cloudformation", "describe_stack_resource", {"StackResourceDetail": detail})
        text = json.dumps(answer).encode()
        body = {"Payload": StreamingBody(io.BytesIO(text), len(text)), "StatusCode": 200}
        self.answers("lambda", "invoke", body | ({"FunctionError": error} if error else {}))

    def resumed(self) -> None:
        self.answers("lambda", "put_function_concurrency", {})
        self.answers("lambda", "delete_function_concurrency", {})


@pytest.fixture
def account() -> Iterator[Account]:
    account = Account()
    yield account
    account.assert_all_called()


@pytest.fixture
def stage(account: Account, tmp_path: Path) -> Stage:
    return Stage("prod", account.client, tmp_path / "restore-prod.json", lambda _seconds: None)


def test_a_restore_pauses_restores_updates_the_app_migrates_verifies_and_resumes_in_order(
    account: Account, stage: Stage
) -> None:
    account.stack(DATABASE)
    account.cluster()
    account.paused()
    account.updated(DATABASE)
    account.stack(APP)
    account.updated(APP)
    account.invoked({"applied": []})
    account.invoked({"resources": 3, "drifting": 0})
    account.resumed()
    account.updated(APP)

    restore(stage, TO)

    writes = {"PutFunctionConcurrency", "DeleteFunctionConcurrency", "UpdateStack", "Invoke"}
    assert [name for name, _ in account.calls if name in writes] == [
        "PutFunctionConcurrency",
        "PutFunctionConcurrency",
        "UpdateStack",
        "UpdateStack",
        "Invoke",
        "Invoke",
        "PutFunctionConcurrency",
        "DeleteFunctionConcurrency",
        "UpdateStack",
    ]
    database, app, back = account.calls_of("UpdateStack")
    assert database["StackName"] == "openreserve-prod-database"
    assert database["UsePreviousTemplate"] is True
    assert database["Parameters"] == [
        {"ParameterKey": "Stage", "UsePreviousValue": True},
        *({"ParameterKey": k, "ParameterValue": v} for k, v in RESTORED.items()),
    ]
    immediate = immediate_deployment(RESTORED)
    assert app["StackName"] == back["StackName"] == "openreserve-prod"
    assert app["Parameters"] == [
        {"ParameterKey": k, "ParameterValue": v} for k, v in immediate.items()
    ]
    assert back["Parameters"] == [
        {"ParameterKey": "DeploymentHash", "UsePreviousValue": True},
        {"ParameterKey": "DeploymentAlarms", "ParameterValue": "watched"},
        {"ParameterKey": "DeploymentType", "ParameterValue": "Canary"},
    ]
    assert not stage.state.exists()


def test_resume_restores_concurrency_and_the_functions_of_the_restore_are_never_paused(
    account: Account, stage: Stage
) -> None:
    account.paused()
    pause(stage)
    account.functions()
    for _ in range(2):
        account.answers("lambda", "put_function_concurrency", {})
    pause(stage)  # a repeat keeps the saved concurrency
    account.resumed()
    resume(stage)

    put = [
        (p["FunctionName"], p["ReservedConcurrentExecutions"])
        for p in account.calls_of("PutFunctionConcurrency")
    ]
    assert put == [*[("prod-Reserve", 0), ("prod-Stock", 0)] * 2, ("prod-Reserve", 7)]
    assert account.calls_of("DeleteFunctionConcurrency") == [{"FunctionName": "prod-Stock"}]
    with pytest.raises(RestoreError, match="is missing"):
        resume(stage)


@pytest.mark.parametrize(
    ("present", "resource_id"),
    [(Account.cluster, "cluster-ABC123"), (Account.instance, "db-ABC123")],
)
def test_a_restore_uses_the_next_generation_and_the_present_database(
    account: Account, stage: Stage, present: Callable[[Account], None], resource_id: str
) -> None:
    account.stack({**DATABASE, "Generation": "4", "RestoreTo": "2026-01-01T00:00:00Z"})
    present(account)

    assert restored_parameters(stage, TO) == {
        **RESTORED,
        "Generation": "5",
        "RestoreFrom": resource_id,
    }


def test_a_repeated_restore_continues_with_the_same_parameters(
    account: Account, stage: Stage
) -> None:
    account.stack({**DATABASE, **RESTORED})

    assert restored_parameters(stage, TO) == RESTORED


@pytest.mark.parametrize("day", [30, 5])
def test_a_time_outside_the_backups_is_rejected_before_functions_are_paused(
    account: Account, stage: Stage, day: int
) -> None:
    account.stack(DATABASE)
    account.cluster()
    to = datetime(2026, 4 if day == 30 else 5, day, tzinfo=UTC)

    with pytest.raises(RestoreError, match="is not between 2026-05-01T00:00:00Z and 2026-05-04"):
        restore(stage, to)
    assert not stage.state.exists()


def test_an_update_without_changes_succeeds_and_a_rollback_fails(
    account: Account, stage: Stage
) -> None:
    account.stack(DATABASE)
    account.refuses(
        "cloudformation", "update_stack", "ValidationError", "No updates are to be performed."
    )
    account.stack(DATABASE)
    update(stage, stage.database, {})
    account.stack(DATABASE)
    account.answers("cloudformation", "update_stack", {"StackId": "s"})
    account.stack(DATABASE, "UPDATE_ROLLBACK_COMPLETE")
    with pytest.raises(RestoreError, match="UPDATE_ROLLBACK_COMPLETE"):
        update(stage, stage.database, {})


def test_a_stack_without_the_restore_parameters_is_not_updated(
    account: Account, stage: Stage
) -> None:
    account.stack({"Stage": "prod"})

    with pytest.raises(RestoreError, match="has no Generation, RestoreFrom, RestoreTo: deploy it"):
        update(stage, stage.database, RESTORED)
    assert account.calls_of("UpdateStack") == []


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({"resources": 3, "drifting": 2}, "", "2 resources drift: openreserve repair --stage prod"),
        ({"error": "statement timeout"}, "", "statement timeout"),
        ({"errorMessage": "Task timed out"}, "Unhandled", "AuditFunction: Task timed out"),
    ],
)
def test_functions_are_not_resumed_after_a_failed_or_unsuccessful_audit(
    account: Account, stage: Stage, answer: Any, error: str, message: str
) -> None:
    account.invoked(answer, error)

    with pytest.raises(RestoreError, match=message):
        verify(stage)
    assert account.calls_of("PutFunctionConcurrency") == []


@pytest.mark.parametrize("instant", ["yesterday", "2026-05-03", "2026-05-03T10:20:30"])
def test_a_time_without_a_time_zone_is_rejected(
    instant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--stage", "prod", "--to", instant])

    assert exit_.value.code == 2
    assert "is not a UTC time such as" in capsys.readouterr().err


def test_an_unknown_stage_is_rejected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--stage", "production", "--resume"])

    assert exit_.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_a_later_deployment_keeps_the_restore_parameters() -> None:
    """Merged by SAM's own code from the template and samconfig.toml."""
    template = yaml_parse((ROOT / "infra/database.yaml").read_text())
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    for stage in ("dev", "staging", "prod"):
        overrides = config[f"{stage}-database"]["deploy"]["parameters"]["parameter_overrides"]
        named = dict(text.split("=", 1) for text in overrides)
        merged = DeployContext.merge_parameters(template, named)
        kept = {one["ParameterKey"] for one in merged if one.get("UsePreviousValue")}

        assert RESTORED.keys() <= kept, stage
