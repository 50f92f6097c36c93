"""Audits of a stage on AWS, by its AuditFunction. Loads botocore: imported with --stage alone."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from openreserve.postgres.audit import AuditFailed, Check, Drift, Repair

ANSWER_SECONDS_MAX = 920
"""Longer than any function may take: Lambda ends them after 900."""
REPAIRS_AT_A_TIME = 100


def check(stage: str, timeout_seconds: float) -> Check:
    """As `books.check`, on the Postgres of the stage.

    Raises:
        AuditFailed: the stage was not reached, or its Postgres was not.
    """
    found = _invoke(stage, {"timeoutSeconds": timeout_seconds})
    drift = tuple(Drift(**row) for row in found["drift"])
    return Check(found["resources"], found["reservations"], drift, found["drifting"] - len(drift))


def repair(
    stage: str, resource_ids: list[str], reason: str, timeout_seconds: float
) -> Iterator[tuple[str, Repair]]:
    """As `books.repair`, on the Postgres of the stage.

    Raises:
        AuditFailed: as check; what was yielded before is repaired.
    """
    for first in range(0, len(resource_ids), REPAIRS_AT_A_TIME):
        some = resource_ids[first : first + REPAIRS_AT_A_TIME]
        event = {"resourceIds": some, "reason": reason, "timeoutSeconds": timeout_seconds}
        answer = _invoke(stage, event, partial=True)
        for row in answer["repairs"]:
            yield row.pop("resource_id"), Repair(**row)
        _raise_error(answer)


def _invoke(stage: str, event: Mapping[str, Any], *, partial: bool = False) -> Any:
    """What AuditFunction of the stack `openreserve-<stage>` answers.

    It is sent once: a repeat while the first still runs would only load Postgres more. `partial`:
    an answer with an error is wanted for what else is in it.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - large
    except ImportError:
        raise AuditFailed("botocore is missing: pip install 'openreserve[sigv4]'") from None
    try:
        resource = _client("cloudformation").describe_stack_resource(
            StackName=f"openreserve-{stage}", LogicalResourceId="AuditFunction"
        )
        answer = _client("lambda").invoke(
            FunctionName=resource["StackResourceDetail"]["PhysicalResourceId"],
            Payload=json.dumps(event).encode(),
        )
        payload = json.loads(answer["Payload"].read())
    except (BotoCoreError, ClientError) as error:
        raise AuditFailed(str(error)) from error
    if "FunctionError" in answer:
        raise AuditFailed(payload.get("errorMessage", "AuditFunction failed"))
    if not partial or "repairs" not in payload:
        _raise_error(payload)
    return payload


def _raise_error(answer: Mapping[str, Any]) -> None:
    if "error" in answer:
        raise AuditFailed(answer["error"])


def _client(service: str) -> Any:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import get_session  # noqa: PLC0415

    patience = Config(
        connect_timeout=5,
        read_timeout=ANSWER_SECONDS_MAX,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,  # or a NAT on the way would forget a connection that is silent
    )
    # The AWS SDK for Python knows AWS_DEFAULT_REGION only; all others know AWS_REGION.
    return get_session().create_client(
        service, region_name=os.environ.get("AWS_REGION"), config=patience
    )
