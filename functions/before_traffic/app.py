"""Lets a deployment continue only when the schema is up to date: invokes MigrateFunction.

It is CodeDeploy's hook before traffic. In a new stack, which has no traffic to shift, it is the
custom resource that the schedules depend on.
"""

import json
import time
import urllib.request
from collections.abc import Sequence
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openreserve.runtime.settings import settings
from openreserve.runtime.telemetry import logger

MIGRATE_SECONDS_MAX = 850
"""More than MigrateFunction's timeout, less than the timeout of this function."""
RESPONSE_SECONDS_MAX = 10
RIGHTS_PAUSES_SECONDS = (2, 4, 8, 16)
"""IAM may take some seconds to propagate the permissions of a new role."""


def handler(event: dict[str, str], _context: Any) -> dict[str, str]:
    """Migrate, then continue or stop the deployment. If it stops, the old version keeps serving.

    Repeats and concurrent calls are harmless: applied migrations are not applied again.
    """
    if "RequestType" in event:
        return _first_migration(event)
    status = "Succeeded" if _migrate() else "Failed"
    _codedeploy().put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=status,
    )
    return {"status": status}


def _first_migration(event: dict[str, str]) -> dict[str, str]:
    """Respond to CloudFormation. The schema stays when the stack is deleted.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
    """
    done = event["RequestType"] == "Delete" or _migrate(RIGHTS_PAUSES_SECONDS)
    answer = {
        "Status": "SUCCESS" if done else "FAILED",
        "Reason": "The log group of the stack says why the schema was not migrated",
        "PhysicalResourceId": "first-migration",
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    request = urllib.request.Request(  # noqa: S310 - the URL is CloudFormation's, signed for this
        event["ResponseURL"],
        data=json.dumps(answer).encode(),
        method="PUT",
        headers={"Content-Type": ""},  # part of the URL's signature
    )
    with urllib.request.urlopen(request, timeout=RESPONSE_SECONDS_MAX):  # noqa: S310
        return {"status": answer["Status"]}


def _migrate(pauses_seconds: Sequence[float] = ()) -> bool:
    """Migrate, and return whether the schema is known to be up to date.

    If IAM denies access, it retries after each of the pauses.
    """
    try:
        answer = _lambda().invoke(FunctionName=settings().migrate_function_name, Payload=b"{}")
        result = json.loads(answer["Payload"].read())
    except (BotoCoreError, ClientError, ValueError) as failure:
        if pauses_seconds and "AccessDenied" in repr(failure):
            time.sleep(pauses_seconds[0])
            return _migrate(pauses_seconds[1:])
        logger().error("MigrateFunction did not respond", extra={"reason": repr(failure)})
        return False
    if "FunctionError" in answer:
        logger().error("The schema was not migrated", extra={"result": result})
        return False
    logger().info("The schema is up to date", extra={"result": result})
    return True


@cache
def _lambda() -> Any:
    """Waits as long as a migration may take. It does not retry: the first call may still run."""
    patience = Config(
        connect_timeout=5,
        read_timeout=MIGRATE_SECONDS_MAX,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,  # or a NAT in between drops the idle connection
    )
    return boto3.client("lambda", config=patience)


@cache
def _codedeploy() -> Any:
    """Gives up before the function times out."""
    patience = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("codedeploy", config=patience)
