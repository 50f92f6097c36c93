"""`python -m infra.restore --stage prod --to 2026-05-03T10:20:30Z`: Postgres as it was then.

Each step can be repeated. The first that fails ends it, and the functions stay paused until
`--resume`: callers get 503, and nothing is written.
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

from infra.restore.stage import NotRestored, Stage, ended, functions, invoke, parameters, window

ROOT = Path(__file__).parents[2]
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
ANSWER_SECONDS_MAX = 920
"""Longer than any function may take."""


def restore(stage: Stage, to: datetime) -> None:
    """All steps, in their order.

    Raises:
        NotRestored: at the first step that failed.
    """
    restored = restored_parameters(stage, to)
    pause(stage)
    update(stage, stage.database, restored)
    before = parameters(stage, stage.app)
    update(stage, stage.app, deployed_at_once(restored))
    _say("migrations", invoke(stage, "MigrateFunction", {}))
    verify(stage)
    resume(stage)
    update(
        stage, stage.app, {name: before[name] for name in ("DeploymentAlarms", "DeploymentType")}
    )


def deployed_at_once(restored: Mapping[str, str]) -> dict[str, str]:
    """Parameters of the app, by which all functions read anew what the database stack wrote down.

    That is no change of the template, so that only another hash publishes new versions. No canary:
    the functions are paused, and their callers' 503 would ring its alarms.
    """
    content = json.dumps(sorted(restored.items())).encode()
    return {
        "DeploymentHash": hashlib.sha256(content).hexdigest(),
        "DeploymentAlarms": "ignored",
        "DeploymentType": "AllAtOnce",
    }


def restored_parameters(stage: Stage, to: datetime) -> dict[str, str]:
    """What the database stack is to be given: the next generation, from the present database.

    A repeat of the same restore gets the parameters that the stack has already.
    """
    present = parameters(stage, stage.database)
    wanted = to.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if present.get("RestoreTo") == wanted:
        return {name: present[name] for name in ("Generation", "RestoreFrom", "RestoreTo")}
    resource_id, earliest, latest = window(stage)
    if not earliest <= to <= latest:
        raise NotRestored(f"{wanted} is not between {earliest:%FT%TZ} and {latest:%FT%TZ}")
    generation = str(int(present.get("Generation", "1")) + 1)
    return {"Generation": generation, "RestoreFrom": resource_id, "RestoreTo": wanted}


def pause(stage: Stage) -> None:
    """Let no function of the stage run that reads or writes stock. Notes what to give back."""
    found = json.loads(stage.state.read_text()) if stage.state.exists() else {}
    lambda_ = stage.client("lambda")
    for name in functions(stage):
        if name not in found:
            limit = lambda_.get_function_concurrency(FunctionName=name)
            found[name] = limit.get("ReservedConcurrentExecutions")
    stage.state.parent.mkdir(parents=True, exist_ok=True)
    stage.state.write_text(json.dumps(found, indent=2))
    for name in found:
        lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    _say("paused", f"{len(found)} functions; {stage.state} has what they had")


def resume(stage: Stage) -> None:
    """Give the functions back what they had before `pause`."""
    if not stage.state.exists():
        raise NotRestored(f"{stage.state} is missing: it has what the functions had")
    lambda_ = stage.client("lambda")
    for name, limit in json.loads(stage.state.read_text()).items():
        if limit is None:
            lambda_.delete_function_concurrency(FunctionName=name)
        else:
            lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=limit)
    stage.state.unlink()
    _say("resumed", "calls are answered")


def update(stage: Stage, stack: str, changed: Mapping[str, str]) -> None:
    """Update a stack with its present template and parameters, but for these. Waits for the end."""
    cloudformation = stage.client("cloudformation")
    given = [
        {"ParameterKey": name, "ParameterValue": changed[name]}
        if name in changed
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in parameters(stage, stack)
    ]
    missing = changed.keys() - {parameter["ParameterKey"] for parameter in given}
    if missing:
        raise NotRestored(f"{stack} has no {', '.join(sorted(missing))}: deploy it first")
    try:
        cloudformation.update_stack(
            StackName=stack,
            UsePreviousTemplate=True,
            Parameters=given,
            Capabilities=CAPABILITIES,
        )
    except ClientError as refused:
        if "No updates are to be performed" not in str(refused):
            raise
    _say(stack, ended(stage, stack))


def verify(stage: Stage) -> None:
    """Check all counters of what was restored.

    Raises:
        NotRestored: some do not agree, or it could not be checked.
    """
    found = invoke(stage, "AuditFunction", {})
    if "error" in found:
        raise NotRestored(f"verify: {found['error']}")
    if found["drifting"]:
        raise NotRestored(
            f"verify: {found['drifting']} resources drift: openreserve repair --stage {stage.name},"
            f" then python -m infra.restore --stage {stage.name} --resume"
        )
    _say("verify", f"{found['resources']} resources agree")


def _say(step: str, outcome: object) -> None:
    print(f"{step}: {outcome}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, or only pause, verify or resume. 0: done; 1: a step failed, and it says which."""
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
    except (NotRestored, BotoCoreError, ClientError) as reason:
        sys.stderr.write(f"Not restored: {reason}\n")
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


def _instant(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise argparse.ArgumentTypeError(f"{text} is no instant such as 2026-05-03T10:20:30Z")
    return datetime.fromisoformat(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.restore", description=__doc__)
    parser.add_argument(
        "--stage", required=True, choices=_stages(), help="a stage of samconfig.toml"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=_instant, help="the instant, in UTC: 2026-05-03T10:20:30Z")
    for step in ("pause", "verify", "resume"):
        what.add_argument(
            f"--{step}", dest="step", action="store_const", const=step, help="only this step"
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
