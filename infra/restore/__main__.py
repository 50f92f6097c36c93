"""`python -m infra.restore --stage prod --to 2026-05-03T10:20:30Z`: restores Postgres.

Each step can be repeated. The first that fails ends the restore, and the functions remain paused
until `--resume`: callers get 503, and nothing is written.
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.restore.stage import (
    RestoreError,
    Stage,
    functions,
    invoke,
    parameters,
    wait_for_stack,
    window,
)

ROOT = Path(__file__).parents[2]
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
ANSWER_SECONDS_MAX = 920
"""Longer than the timeout of any function."""


def restore(stage: Stage, to: datetime) -> None:
    """Run all steps in order.

    Raises:
        RestoreError: a step failed; later steps did not run.
    """
    restored = restored_parameters(stage, to)
    pause(stage)
    update(stage, stage.database, restored)
    previous = parameters(stage, stage.app)
    update(stage, stage.app, immediate_deployment(restored))
    _say("migrations", invoke(stage, "MigrateFunction", {}))
    verify(stage)
    resume(stage)
    update(
        stage, stage.app, {name: previous[name] for name in ("DeploymentAlarms", "DeploymentType")}
    )


def immediate_deployment(restored: Mapping[str, str]) -> dict[str, str]:
    """Parameters of the app that make all functions use the new values of the database stack.

    The template does not change, so only a new hash publishes new versions. No canary: the
    functions are paused, and the 503 answers would set off its alarms.
    """
    content = json.dumps(sorted(restored.items())).encode()
    return {
        "DeploymentHash": hashlib.sha256(content).hexdigest(),
        "DeploymentAlarms": "ignored",
        "DeploymentType": "AllAtOnce",
    }


def restored_parameters(stage: Stage, to: datetime) -> dict[str, str]:
    """Parameters of the database stack: the next generation, restored from the present database.

    A repeat of the same restore returns the parameters that the stack already has.
    """
    present = parameters(stage, stage.database)
    timestamp = to.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if present.get("RestoreTo") == timestamp:
        return {name: present[name] for name in ("Generation", "RestoreFrom", "RestoreTo")}
    resource_id, earliest, latest = window(stage)
    if not earliest <= to <= latest:
        raise RestoreError(f"{timestamp} is not between {earliest:%FT%TZ} and {latest:%FT%TZ}")
    generation = str(int(present.get("Generation", "1")) + 1)
    return {"Generation": generation, "RestoreFrom": resource_id, "RestoreTo": timestamp}


def pause(stage: Stage) -> None:
    """Stop all functions of the stage that read or write stock. Saves their concurrency."""
    limits = json.loads(stage.state.read_text()) if stage.state.exists() else {}
    lambda_ = stage.client("lambda")
    for name in functions(stage):
        if name not in limits:
            limit = lambda_.get_function_concurrency(FunctionName=name)
            limits[name] = limit.get("ReservedConcurrentExecutions")
    stage.state.parent.mkdir(parents=True, exist_ok=True)
    stage.state.write_text(json.dumps(limits, indent=2))
    for name in limits:
        lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    _say("paused", f"{len(limits)} functions; {stage.state} has their previous concurrency")


def resume(stage: Stage) -> None:
    """Restore the concurrency that the functions had before `pause`."""
    if not stage.state.exists():
        raise RestoreError(
            f"{stage.state} is missing: it has the previous concurrency of the functions"
        )
    lambda_ = stage.client("lambda")
    for name, limit in json.loads(stage.state.read_text()).items():
        if limit is None:
            lambda_.delete_function_concurrency(FunctionName=name)
        else:
            lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=limit)
    stage.state.unlink()
    _say("resumed", "the functions accept calls")


def update(stage: Stage, stack: str, changed: Mapping[str, str]) -> None:
    """Update a stack with its present template, changing only these parameters, and wait."""
    cloudformation = stage.client("cloudformation")
    given = [
        {"ParameterKey": name, "ParameterValue": changed[name]}
        if name in changed
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in parameters(stage, stack)
    ]
    missing = changed.keys() - {parameter["ParameterKey"] for parameter in given}
    if missing:
        raise RestoreError(f"{stack} has no {', '.join(sorted(missing))}: deploy it first")
    try:
        cloudformation.update_stack(
            StackName=stack,
            UsePreviousTemplate=True,
            Parameters=given,
            Capabilities=CAPABILITIES,
        )
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
    _say(stack, wait_for_stack(stage, stack))


def verify(stage: Stage) -> None:
    """Check all counters of the restored database.

    Raises:
        RestoreError: a counter does not agree with its reservations, or the check failed.
    """
    report = invoke(stage, "AuditFunction", {})
    if "error" in report:
        raise RestoreError(f"verify: {report['error']}")
    if report["drifting"]:
        raise RestoreError(
            f"verify: {report['drifting']} resources drift: "
            f"openreserve repair --stage {stage.name}, "
            f"then python -m infra.restore --stage {stage.name} --resume"
        )
    _say("verify", f"{report['resources']} resources agree")


def _say(step: str, outcome: object) -> None:
    print(f"{step}: {outcome}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, or only pause, verify or resume. 0: success; 1: a step failed, named on stderr."""
    options = _options(arguments)
    patience = Config(
        read_timeout=ANSWER_SECONDS_MAX,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,
    )
    session: Any = boto3.Session(region_name=_stages()[options.stage])

    def client(service: str) -> Any:
        return session.client(service, config=patience if service == "lambda" else None)

    stage = Stage(options.stage, client, ROOT / f".openreserve/restore-{options.stage}.json")
    steps = {"pause": pause, "verify": verify, "resume": resume}
    try:
        if options.to is not None:
            restore(stage, options.to)
        else:
            steps[options.step](stage)
    except (RestoreError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"Not restored: {error}\n")
        return 1
    return 0


def _stages() -> dict[str, str]:
    """The region of each stage."""
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    return {
        name: commands["global"]["parameters"]["region"]
        for name, commands in config.items()
        if isinstance(commands, Mapping)
        and "stack_name" in commands.get("global", {}).get("parameters", {})
    }


def _utc_time(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise argparse.ArgumentTypeError(f"{text} is not a UTC time such as 2026-05-03T10:20:30Z")
    return datetime.fromisoformat(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.restore", description=__doc__)
    parser.add_argument(
        "--stage", required=True, choices=_stages(), help="a stage of samconfig.toml"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--to", type=_utc_time, help="the time to restore to, in UTC: 2026-05-03T10:20:30Z"
    )
    for step in ("pause", "verify", "resume"):
        what.add_argument(
            f"--{step}", dest="step", action="store_const", const=step, help="run only this step"
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
