"""What AWS knows of a stage, as far as a restore reads it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

UNPAUSED = {"MigrateFunction", "AuditFunction", "BeforeTrafficFunction"}
"""They serve no caller, and a restore needs the first two."""
WAIT_SECONDS = 30


class NotRestored(Exception):
    """The restore ended: the text says at which step, and why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and what AWS knows of it."""

    name: str
    client: Callable[[str], Any]
    state: Path
    """Where the concurrency of paused functions is kept."""
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
    """What a function answers, by its name in template.yaml."""
    detail = stage.client("cloudformation").describe_stack_resource(
        StackName=stage.app, LogicalResourceId=function
    )
    answer = stage.client("lambda").invoke(
        FunctionName=detail["StackResourceDetail"]["PhysicalResourceId"],
        Payload=json.dumps(event).encode(),
    )
    payload = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise NotRestored(f"{function}: {payload.get('errorMessage', payload)}")
    return payload


def window(stage: Stage) -> tuple[str, datetime, datetime]:
    """The resource id of the present database, and between which instants it can be restored."""
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
    """Of the database stack: Cluster or Instance, and its identifier."""
    for resource in resources(stage, stage.database):
        if resource["LogicalResourceId"] in ("Cluster", "Instance"):
            return resource["LogicalResourceId"], resource["PhysicalResourceId"]
    raise NotRestored(f"{stage.database} has neither Cluster nor Instance")


def functions(stage: Stage) -> list[str]:
    """The names of the functions that a restore pauses."""
    return [
        resource["PhysicalResourceId"]
        for resource in resources(stage, stage.app)
        if resource["ResourceType"] == "AWS::Lambda::Function"
        and resource["LogicalResourceId"] not in UNPAUSED
    ]


def resources(stage: Stage, stack: str) -> Iterator[Mapping[str, str]]:
    """What a stack is made of."""
    pages = stage.client("cloudformation").get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        yield from page["StackResourceSummaries"]


def parameters(stage: Stage, stack: str) -> dict[str, str]:
    """The parameters of a stack, as it has them now."""
    (found,) = stage.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {
        parameter["ParameterKey"]: parameter.get("ParameterValue", "")
        for parameter in found.get("Parameters", ())
    }


def ended(stage: Stage, stack: str) -> str:
    """The state of the stack once it has one that lasts."""
    while True:
        (found,) = stage.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        status: str = found["StackStatus"]
        # While the old resources are deleted, all new ones serve.
        if status in ("UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "CREATE_COMPLETE"):
            return status
        if not status.endswith("_IN_PROGRESS"):
            raise NotRestored(f"{stack}: {status} {found.get('StackStatusReason', '')}".rstrip())
        stage.wait(WAIT_SECONDS)
