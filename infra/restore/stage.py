"""Reads the stacks, functions and database of a stage from AWS, for a restore."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

UNPAUSED = {"MigrateFunction", "AuditFunction", "BeforeTrafficFunction"}
"""They serve no callers, and a restore needs the first two."""
WAIT_SECONDS = 30


class RestoreError(Exception):
    """The restore failed. The text names the step and the reason."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and access to its AWS account."""

    name: str
    client: Callable[[str], Any]
    state: Path
    """The file with the previous concurrency of paused functions."""
    wait: Callable[[float], None] = time.sleep

    @property
    def app(self) -> str:
        """The stack of the functions."""
        return f"openreserve-{self.name}"

    @property
    def database(self) -> str:
        """The stack of Postgres."""
        return f"openreserve-{self.name}-database"


def invoke(stage: Stage, function: str, event: Mapping[str, Any]) -> Any:
    """The response of a function, by its name in template.yaml."""
    detail = stage.client("cloudformation").describe_stack_resource(
        StackName=stage.app, LogicalResourceId=function
    )
    response = stage.client("lambda").invoke(
        FunctionName=detail["StackResourceDetail"]["PhysicalResourceId"],
        Payload=json.dumps(event).encode(),
    )
    payload = json.loads(response["Payload"].read())
    if "FunctionError" in response:
        raise RestoreError(f"{function}: {payload.get('errorMessage', payload)}")
    return payload


def window(stage: Stage) -> tuple[str, datetime, datetime]:
    """The resource id of the present database, its earliest and its latest restorable time."""
    kind, name = database(stage)
    rds = stage.client("rds")
    if kind == "Cluster":
        (cluster,) = rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        times = cluster["EarliestRestorableTime"], cluster["LatestRestorableTime"]
        return cluster["DbClusterResourceId"], *times
    (instance,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    (backups,) = rds.describe_db_instance_automated_backups(
        DbiResourceId=instance["DbiResourceId"]
    )["DBInstanceAutomatedBackups"]
    earliest = backups["RestoreWindow"]["EarliestTime"]
    return instance["DbiResourceId"], earliest, instance["LatestRestorableTime"]


def database(stage: Stage) -> tuple[str, str]:
    """The database of the stack: Cluster or Instance, and its identifier."""
    for resource in resources(stage, stage.database):
        if resource["LogicalResourceId"] in ("Cluster", "Instance"):
            return resource["LogicalResourceId"], resource["PhysicalResourceId"]
    raise RestoreError(f"{stage.database} has neither Cluster nor Instance")


def functions(stage: Stage) -> list[str]:
    """The names of the functions that a restore pauses."""
    return [
        resource["PhysicalResourceId"]
        for resource in resources(stage, stage.app)
        if resource["ResourceType"] == "AWS::Lambda::Function"
        and resource["LogicalResourceId"] not in UNPAUSED
    ]


def resources(stage: Stage, stack: str) -> Iterator[Mapping[str, str]]:
    """The resources of a stack."""
    pages = stage.client("cloudformation").get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        yield from page["StackResourceSummaries"]


def parameters(stage: Stage, stack: str) -> dict[str, str]:
    """The present parameters of a stack."""
    (description,) = stage.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {
        parameter["ParameterKey"]: parameter.get("ParameterValue", "")
        for parameter in description.get("Parameters", ())
    }


def wait_for_stack(stage: Stage, stack: str) -> str:
    """Wait until the stack is updated; its final status.

    Raises:
        RestoreError: the update failed.
    """
    while True:
        (description,) = stage.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        status: str = description["StackStatus"]
        # During the cleanup the new resources already serve.
        if status in ("UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "CREATE_COMPLETE"):
            return status
        if not status.endswith("_IN_PROGRESS"):
            raise RestoreError(
                f"{stack}: {status} {description.get('StackStatusReason', '')}".rstrip()
            )
        stage.wait(WAIT_SECONDS)
