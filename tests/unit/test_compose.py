"""The Compose file and the variables for sam local, as far as one can tell without an engine."""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_pydantic.models import ComposeSpecification
from pydantic import ValidationError

from infra.local import services, template
from tests.conftest import Engine

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
VARIABLES: dict[str, dict[str, str]] = json.loads((ROOT / "infra/compose/env.json").read_text())
PARAMETERS = {"DatabaseUrl": "a url", "MigrationUrl": "a url", "RedisUrl": "a url"}
FUNCTIONS = {
    function.name: function.environment
    for function in template.load(ROOT / "template.yaml", PARAMETERS).functions
}


SIGN_IN = {"DATABASE_AUTH": "url", "REDIS_AUTH": "url", "MIGRATION_SECRET_ARN": ""}
"""How functions sign in where AWS says who they are, and that nobody does so here."""


def test_the_compose_file_is_one_by_the_schema_of_compose() -> None:
    ComposeSpecification.model_validate(COMPOSE)

    with pytest.raises(ValidationError):  # it would tell
        ComposeSpecification.model_validate({**COMPOSE, "services": {"a": {"imagee": "b"}}})


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_of_one_version_says_if_it_is_well_and_listens_here_alone(
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


def test_the_containers_are_of_the_versions_that_the_tests_run_on(
    engine: Engine, set_by_hand: dict[str, str]
) -> None:
    if set_by_hand or "POSTGRES_BIN" in os.environ:
        pytest.skip("the tests run on a Postgres of somebody's own")
    ((version,),) = engine.sql("SHOW server_version")

    assert SERVICES["postgres"]["image"] == f"postgres:{version.split()[0]}"


def test_functions_are_given_variables_that_the_template_declares_for_them() -> None:
    """sam local leaves others out without a word."""
    for function, variables in VARIABLES.items():
        assert variables.keys() <= FUNCTIONS[function].keys(), function
        for variable, sign_in in (
            ("DATABASE_URL", "DATABASE_AUTH"),
            ("REDIS_URL", "REDIS_AUTH"),
            ("MIGRATION_URL", "MIGRATION_SECRET_ARN"),
        ):
            if variable in variables:
                assert variables[sign_in] == SIGN_IN[sign_in], function


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL", "MIGRATION_URL"])
def test_whoever_needs_a_server_is_told_where_it_is_and_nobody_else(variable: str) -> None:
    needing = {name for name, declared in FUNCTIONS.items() if declared.get(variable)}
    if variable != "MIGRATION_URL":
        needing -= {"MigrateFunction"}  # which has these from Globals, and uses none of them

    assert {name for name, given in VARIABLES.items() if variable in given} == needing


def test_the_variables_name_servers_ports_and_users_that_there_are() -> None:
    listening = {
        name: {int(port.split(":")[-1]) for port in service["ports"]}
        for name, service in SERVICES.items()
    }
    for given in VARIABLES.values():
        for variable, text in given.items():
            if not variable.endswith("_URL") or not text:
                continue
            url = urlsplit(text)
            assert url.port in listening[url.hostname or ""], text
            user = {"DATABASE_URL": services.APP, "MIGRATION_URL": services.OWNER}.get(variable)
            assert url.username == user
            assert variable == "REDIS_URL" or url.path == f"/{services.DATABASE}"


def test_functions_reach_postgres_through_the_pool_and_the_migrations_do_not() -> None:
    told = [given.get("DATABASE_URL", "") for given in VARIABLES.values()]

    assert {urlsplit(url).hostname for url in told if url} == {"pgbouncer"}
    assert urlsplit(VARIABLES["MigrateFunction"]["MIGRATION_URL"]).hostname == "postgres"


def test_sam_can_be_given_the_network_by_the_name_in_the_docs() -> None:
    docs = (ROOT / "docs/docker.md").read_text()

    assert f"--docker-network {COMPOSE['networks']['default']['name']} " in docs
    assert "--env-vars infra/compose/env.json" in docs
