"""`make deploy STAGE=dev`: deploys a stage of samconfig.toml and runs a smoke test against it.

Each step prints its command before it runs it. The first step that fails ends the deployment.
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
"""The stacks that a rollback of code must not touch, in the order of their dependencies."""


class DeploymentError(Exception):
    """The deployment failed. The text names the step and the reason in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy. 0: the stage works; 1: a step failed; 2: nothing was changed."""
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
    except DeploymentError as error:
        return _report(error, 2)
    try:
        deploy(steps)
    except DeploymentError as error:
        return _report(error, 1)
    return 0


def deploy(steps: "_Steps") -> None:
    """Run all steps in order. A failed build leaves the account unchanged."""
    steps.build()
    for name in DATA:
        steps.deploy_data(name)
    steps.deploy_app()
    steps.migrate()
    steps.smoke_test()


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of samconfig.toml."""

    name: str
    stack: str
    region: str


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of a deployment; with `dry_run` they only print their commands."""

    stage: _Stage
    assume_yes: bool
    dry_run: bool
    without_alarms: bool = False

    def build(self) -> None:
        self._run("sam", "build")

    def deploy_data(self, name: str) -> None:
        """Create or update a data stack, and protect it from termination."""
        self._sam_deploy(f"{self.stage.name}-{name}")
        stack = f"{self.stage.stack}-{name}"
        self._print(f"protect {stack} from termination")
        if not self.dry_run:
            _protect(stack, self.stage.region)

    def deploy_app(self) -> None:
        """Deploy the functions. Traffic shifts after the migrations; an alarm rolls it back."""
        overrides = settings.overrides(_config(), self.stage.name)
        if self.without_alarms:
            overrides["DeploymentAlarms"] = "ignored"
        # Overrides on the command line replace all of samconfig.toml, so pass the complete set.
        overrides[settings.HASH] = self._hash(overrides)
        self._sam_deploy(self.stage.name, "--parameter-overrides", *settings.options(overrides))

    def _hash(self, overrides: Mapping[str, str]) -> str:
        """The hash of the build, the overrides and the values that the data stacks published."""
        if self.dry_run:
            return "<hash>"
        built = ROOT / ".aws-sam/build"
        try:
            names = settings.names_in_store(ROOT / "template.yaml", overrides)
            stored = settings.stored_values(names, self.stage.region)
            return settings.fingerprint(built, overrides, stored)
        except settings.SettingsError as error:
            raise DeploymentError(str(error)) from None

    def migrate(self) -> None:
        """Invoke the migrations: in a new stack no traffic shifts, so the hook does not run.

        After the hook there is nothing left to migrate. `sam` exits with 0 even if the function
        failed, so this checks the response.
        """
        response = self._sam_json(
            "remote", "invoke", "MigrateFunction", *self._stack_options, "--output", "json"
        )
        if response is None:
            return
        payload = json.dumps(response.get("Payload"))
        if "FunctionError" in response:
            raise DeploymentError(f"the migrations failed, and changed nothing: {payload}")
        print(f"Migrations: {payload}")

    def smoke_test(self) -> None:
        """Commit one reservation and release another through the URL of the stage."""
        outputs = self._sam_json("list", "stack-outputs", *self._stack_options, "--output", "json")
        url = "<ApiUrl>" if outputs is None else _api_url(outputs, self.stage.stack)
        self._run(
            *(sys.executable, "-m", "infra.deploy.smoke", url),
            *("--sigv4", "--region", self.stage.region),
        )

    @property
    def _stack_options(self) -> tuple[str, ...]:
        return "--stack-name", self.stage.stack, "--region", self.stage.region

    def _sam_deploy(self, environment: str, *more: str) -> None:
        """Deploy a section of samconfig.toml. An empty change set is not an error, for repeats."""
        quiet = ("--no-confirm-changeset",) if self.assume_yes else ()
        self._run(
            *("sam", "deploy", "--config-env", environment, "--no-fail-on-empty-changeset"),
            *quiet,
            *more,
        )

    def _sam_json(self, *arguments: str) -> Any:
        """The JSON output of a sam command; None in a dry run."""
        done = self._run("sam", *arguments, capture=True)
        if done is None:
            return None
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise DeploymentError(
                f"the output of sam {arguments[0]} is not JSON: {done.stdout[:200]!r}"
            ) from None

    def _run(self, *command: str, capture: bool = False) -> subprocess.CompletedProcess[str] | None:
        """Run a command. Its output goes to the terminal; with `capture`, stdout is returned."""
        shown = ("python" if command[0] == sys.executable else command[0], *command[1:])
        self._print(shlex.join(shown))
        if self.dry_run:
            return None
        try:
            done = subprocess.run(  # noqa: S603 - the commands above, with names from samconfig.toml
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE if capture else None,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise DeploymentError(
                f"{command[0]} is not on the PATH; make deploy puts it there"
            ) from None
        if done.returncode != 0:
            raise DeploymentError(f"exit code {done.returncode} of {shlex.join(shown)}")
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
        raise DeploymentError(
            f"STAGE is {name or 'not given'}, and must be one of {', '.join(stages)}"
        )
    return _Stage(name, stages[name]["stack_name"], stages[name]["region"])


def _account(stage: _Stage) -> str:
    """The account of the credentials, checked before the build."""
    session = boto3.Session(region_name=stage.region)
    try:
        if session.get_credentials() is None:
            raise DeploymentError("no AWS credentials found: set AWS_PROFILE, or run aws configure")
        account: str = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise DeploymentError(f"AWS rejects the credentials: {error}") from None
    return account


def _protect(stack: str, region: str) -> None:
    try:
        boto3.client("cloudformation", region_name=region).update_termination_protection(
            StackName=stack, EnableTerminationProtection=True
        )
    except (BotoCoreError, ClientError) as error:
        raise DeploymentError(f"could not protect {stack} from termination: {error}") from None


def _api_url(outputs: Sequence[Mapping[str, str]], stack: str) -> str:
    for output in outputs:
        if output["OutputKey"] == "ApiUrl":
            return output["OutputValue"].removesuffix("/api/v1")
    raise DeploymentError(f"{stack} has no output ApiUrl")


def _report(error: DeploymentError, code: int) -> int:
    sys.stderr.write(f"Not deployed: {error}\n")
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument("stage", nargs="?", default="", help="a stage of samconfig.toml")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    parser.add_argument(
        "--yes", action="store_true", help="do not ask for confirmation, as prod does"
    )
    parser.add_argument(
        "--without-alarms",
        action="store_true",
        help="shift traffic although alarms go off, to deploy the fix of their cause",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
