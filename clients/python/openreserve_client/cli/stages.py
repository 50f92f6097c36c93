"""Audits of a stage on AWS, by invoking its AuditFunction. Imports botocore."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from openreserve_client.cli.audit_results import AuditFailed, Check, Drift, Repair

RESPONSE_SECONDS_MAX = 920
"""The read timeout: longer than the 900 s that a Lambda function can run."""
REPAIRS_PER_CALL = 100


def check(stage: str, timeout_seconds: float) -> Check:
    """Recompute all counters of the stage from its reservations.

    Raises:
        AuditFailed: AuditFunction could not be invoked, or failed.
    """
    result = _invoke(stage, {"timeoutSeconds": timeout_seconds})
    drift = tuple(Drift(**row) for row in result["drift"])
    not_listed = result["drifting"] - len(drift)
    return Check(result["resources"], result["reservations"], drift, not_listed)


def repair(
    stage: str, resource_ids: list[str], reason: str, timeout_seconds: float
) -> Iterator[tuple[str, Repair]]:
    """Set each counter of the stage to the value that its reservations give.

    Raises:
        AuditFailed: as check. The repairs yielded before it are done.
    """
    for first in range(0, len(resource_ids), REPAIRS_PER_CALL):
        batch = resource_ids[first : first + REPAIRS_PER_CALL]
        event = {"resourceIds": batch, "reason": reason, "timeoutSeconds": timeout_seconds}
        result = _invoke(stage, event, partial=True)
        for row in result["repairs"]:
            yield row.pop("resource_id"), Repair(**row)
        _raise_error(result)


def _invoke(stage: str, event: Mapping[str, Any], *, partial: bool = False) -> Any:
    """Invoke AuditFunction of the stack `openreserve-<stage>` and return its result.

    Without retries: a repeat while the first invocation still runs would only add load to
    Postgres. `partial`: also return a result with both repairs and an error.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - optional
    except ImportError:
        raise AuditFailed(
            "botocore is not installed: pip install 'openreserve-client[sigv4]'"
        ) from None
    try:
        resource = _client("cloudformation").describe_stack_resource(
            StackName=f"openreserve-{stage}", LogicalResourceId="AuditFunction"
        )
        response = _client("lambda").invoke(
            FunctionName=resource["StackResourceDetail"]["PhysicalResourceId"],
            Payload=json.dumps(event).encode(),
        )
        result = json.loads(response["Payload"].read())
    except (BotoCoreError, ClientError) as error:
        raise AuditFailed(str(error)) from error
    if "FunctionError" in response:
        raise AuditFailed(result.get("errorMessage", "AuditFunction failed"))
    if not partial or "repairs" not in result:
        _raise_error(result)
    return result


def _raise_error(result: Mapping[str, Any]) -> None:
    if "error" in result:
        raise AuditFailed(result["error"])


def _client(service: str) -> Any:
    from botocore.config import Config  # noqa: PLC0415 - optional
    from botocore.session import get_session  # noqa: PLC0415

    config = Config(
        connect_timeout=5,
        read_timeout=RESPONSE_SECONDS_MAX,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,  # a NAT would otherwise drop a connection that is silent for minutes
    )
    # The AWS SDK for Python reads only AWS_DEFAULT_REGION; the other AWS tools read AWS_REGION.
    return get_session().create_client(
        service, region_name=os.environ.get("AWS_REGION"), config=config
    )
