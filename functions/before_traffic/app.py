"""Lets a deployment go on only when the schema is up to date.

CodeDeploy's hook before traffic; and, in a new stack, which has no traffic to shift, the custom
resource that the schedules wait for. Has MigrateFunction do it, and reports the outcome.
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
"""More than MigrateFunction may take, and less than this function, which is to tell of it."""


RESPONSE_SECONDS_MAX = 10
RIGHTS_PAUSES_SECONDS = (2, 4, 8, 16)
"""IAM may take some seconds until it knows the rights of a role that was made just now."""


def handler(event: dict[str, str], _context: Any) -> dict[str, str]:
    """Migrate, and let the deployment go on or stop it: then the old version goes on serving.

    A repeat is harmless, and so are several at once: what was migrated is left as it is.
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
    """Answer CloudFormation. When the stack is deleted, the schema stays.

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
        headers={"Content-Type": ""},  # as the signature of the URL has it
    )
    with urllib.request.urlopen(request, timeout=RESPONSE_SECONDS_MAX):  # noqa: S310
        return {"status": answer["Status"]}


def _migrate(pauses_seconds: Sequence[float] = ()) -> bool:
    """Whether the schema is up to date now; not, if that is unknown.

    A refusal by IAM is tried again after each of the pauses.
    """
    try:
        answer = _lambda().invoke(FunctionName=settings().migrate_function_name, Payload=b"{}")
        told = json.loads(answer["Payload"].read())
    except (BotoCoreError, ClientError, ValueError) as failure:
        if pauses_seconds and "AccessDenied" in repr(failure):
            time.sleep(pauses_seconds[0])
            return _migrate(pauses_seconds[1:])
        logger().error("MigrateFunction was not heard", extra={"reason": repr(failure)})
        return False
    if "FunctionError" in answer:
        logger().error("The schema was not migrated", extra={"told": told})
        return False
    logger().info("The schema is up to date", extra={"told": told})
    return True


@cache
def _lambda() -> Any:
    """Waits as long as a migration may take. It is not sent twice: the first may still run."""
    patience = Config(
        connect_timeout=5,
        read_timeout=MIGRATE_SECONDS_MAX,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,  # or what lies between would forget a connection that is silent
    )
    return boto3.client("lambda", config=patience)


@cache
def _codedeploy() -> Any:
    """Gives up before the time of the function is up."""
    patience = Config(
        connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return boto3.client("codedeploy", config=patience)
