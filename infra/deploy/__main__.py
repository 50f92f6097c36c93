"""`make deploy STAGE=dev`: from a checkout to a stage that has answered a smoke test.

Every step is a command that is printed before it runs; the first that fails ends the deployment.
What a stage is stands in samconfig.toml.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.deploy import settings

ROOT = Path(__file__).parents[2]
DATA = ("network", "database", "cache")
"""The stacks that a rollback of code must not touch, each needed by those behind it."""


class NotDeployed(Exception):
    """The deployment ended: the text says in one line at which step, and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy. 0: the stage serves; 1: a step failed; 2: nothing was done, and it says why."""
    options = _options(arguments)
    try:
        stage = _stage(options.stage)
        steps = _Steps(
            stage,
            assume_yes=options.yes,
            dry_run=options.dry_run,
            without_alarms=options.without_alarms,
        )
        if not options.dry_run:
            print(f"Deploying {stage.stack} to account {_account(stage)} in {stage.region}")
    except NotDeployed as reason:
        return _told(reason, 2)
    try:
        deploy(steps)
    except NotDeployed as reason:
        return _told(reason, 1)
    return 0


def deploy(steps: "_Steps") -> None:
    """All steps, in their order. What is built cannot fail any more when the account is touched."""
    steps.build()
    for name in DATA:
        steps.deploy_data(name)
    steps.deploy_app()
    steps.migrate()
    steps.smoke_test()


@dataclass(frozen=True, slots=True)
class _Stage:
    """What samconfig.toml says of a stage."""

    name: str
    stack: str
    region: str


@dataclass(frozen=True, slots=True)
class _Steps:
    """What a deployment does to a stage, or would do."""

    stage: _Stage
    assume_yes: bool
    dry_run: bool
    without_alarms: bool = False

    def build(self) -> None:
        self._run("sam", "build")

    def deploy_data(self, name: str) -> None:
        """Made if missing, changed if its template was, and never removed by mistake."""
        self._sam_deploy(f"{self.stage.name}-{name}")
        stack = f"{self.stage.stack}-{name}"
        self._print(f"protect {stack} from termination")
        if not self.dry_run:
            _protect(stack, self.stage.region)

    def deploy_app(self) -> None:
        """The new code gets traffic after its migrations, unless those or the alarms object."""
        given = settings.overrides(_config(), self.stage.name)
        if self.without_alarms:
            given["DeploymentAlarms"] = "ignored"
        # On the command line they replace those of samconfig.toml, so all of them are given.
        given[settings.HASH] = self._hash(given)
        self._sam_deploy(self.stage.name, "--parameter-overrides", *settings.options(given))

    def _hash(self, given: Mapping[str, str]) -> str:
        """Of what is about to be deployed. The data stacks have written down where they are."""
        if self.dry_run:
            return "<hash>"
        built = ROOT / ".aws-sam/build"
        try:
            names = settings.names_in_store(ROOT / "template.yaml", given)
            stored = settings.stored_values(names, self.stage.region)
            return settings.fingerprint(built, given, stored)
        except settings.Unknown as reason:
            raise NotDeployed(str(reason)) from None

    def migrate(self) -> None:
        """By hand, since a stack that is new has no traffic to shift, and so no hook before it.

        Whenever the hook has run, nothing is left to do. `sam` exits with 0 when the function
        failed, so that its answer has to be looked at.
        """
        answer = self._asked(
            "remote", "invoke", "MigrateFunction", *self._of_the_stack, "--output", "json"
        )
        if answer is None:
            return
        if "FunctionError" in answer:
            told = json.dumps(answer.get("Payload"))
            raise NotDeployed(f"the migrations failed, and changed nothing: {told}")
        print(f"Migrations: {json.dumps(answer.get('Payload'))}")

    def smoke_test(self) -> None:
        """One reservation of each fate, against the stage's own URL."""
        outputs = self._asked("list", "stack-outputs", *self._of_the_stack, "--output", "json")
        url = "<ApiUrl>" if outputs is None else _api_url(outputs, self.stage.stack)
        self._run(
            *(sys.executable, "-m", "infra.deploy.smoke", url),
            *("--sigv4", "--region", self.stage.region),
        )

    @property
    def _of_the_stack(self) -> tuple[str, ...]:
        return "--stack-name", self.stage.stack, "--region", self.stage.region

    def _sam_deploy(self, environment: str, *more: str) -> None:
        """Of a section of samconfig.toml; no change is no failure, so that it can be run again."""
        quiet = ("--no-confirm-changeset",) if self.assume_yes else ()
        self._run(
            *("sam", "deploy", "--config-env", environment, "--no-fail-on-empty-changeset"),
            *quiet,
            *more,
        )

    def _asked(self, *arguments: str) -> Any:
        """What a command of sam answers, as JSON; None if it was only printed."""
        done = self._run("sam", *arguments, answers=True)
        if done is None:
            return None
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise NotDeployed(
                f"sam {arguments[0]} answered no JSON: {done.stdout[:200]!r}"
            ) from None

    def _run(self, *command: str, answers: bool = False) -> subprocess.CompletedProcess[str] | None:
        """Its output is for whoever deploys; with `answers`, standard output is for the caller."""
        shown = ("python" if command[0] == sys.executable else command[0], *command[1:])
        self._print(shlex.join(shown))
        if self.dry_run:
            return None
        try:
            done = subprocess.run(  # noqa: S603 - the commands above, and names of samconfig.toml
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE if answers else None,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise NotDeployed(
                f"{command[0]} is not on the PATH; make deploy puts it there"
            ) from None
        if done.returncode != 0:
            raise NotDeployed(f"exit code {done.returncode} of {shlex.join(shown)}")
        return done

    def _print(self, step: str) -> None:
        print(f"+ {step}", flush=True)


def _config() -> dict[str, Any]:
    return tomllib.loads((ROOT / "samconfig.toml").read_text())


def _stage(name: str) -> _Stage:
    config = _config()
    stages = {
        section: parameters
        for section, commands in config.items()
        if isinstance(commands, Mapping)
        and "stack_name" in (parameters := commands.get("global", {}).get("parameters", {}))
    }
    if name not in stages:
        raise NotDeployed(f"STAGE is {name or 'not given'}, and must be one of {', '.join(stages)}")
    return _Stage(name, stages[name]["stack_name"], stages[name]["region"])


def _account(stage: _Stage) -> str:
    """Whose credentials these are, asked before anything is built."""
    session = boto3.Session(region_name=stage.region)
    try:
        if session.get_credentials() is None:
            raise NotDeployed("there are no AWS credentials: set AWS_PROFILE, or run aws configure")
        account: str = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as refused:
        raise NotDeployed(f"AWS does not take the credentials: {refused}") from None
    return account


def _protect(stack: str, region: str) -> None:
    try:
        boto3.client("cloudformation", region_name=region).update_termination_protection(
            StackName=stack, EnableTerminationProtection=True
        )
    except (BotoCoreError, ClientError) as refused:
        raise NotDeployed(f"{stack} is not protected from termination: {refused}") from None


def _api_url(outputs: Sequence[Mapping[str, str]], stack: str) -> str:
    for output in outputs:
        if output["OutputKey"] == "ApiUrl":
            return output["OutputValue"].removesuffix("/api/v1")
    raise NotDeployed(f"{stack} has no output ApiUrl")


def _told(reason: NotDeployed, code: int) -> int:
    sys.stderr.write(f"Not deployed: {reason}\n")
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument("stage", nargs="?", default="", help="a stage of samconfig.toml")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before a change, as prod does"
    )
    parser.add_argument(
        "--without-alarms",
        action="store_true",
        help="shift calls to the new code although alarms ring, for the fix of what makes them",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
