"""The Postgres and Redis servers of the tests.

Those of DATABASE_URL and MIGRATION_URL if both are set; otherwise containers if a container engine
is available; otherwise the embedded servers of `make run`.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import yaml

from infra.local import services

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "infra/compose.yaml"
ASK = ("docker", "info", "--format", "{{.ServerVersion}}")
ASK_SECONDS_MAX = 5
START_SECONDS_MAX = 60
GIVEN = ("DATABASE_URL", "MIGRATION_URL", "REDIS_URL")


@contextmanager
def servers(
    state: Path, given: Mapping[str, str]
) -> Iterator[tuple[services.Postgres, services.Redis]]:
    """Start the servers. `given`: the environment variables of the test run.

    DATABASE_URL alone is ignored: it may belong to another project, which must not be migrated.
    """
    with ExitStack() as stack:
        variables = dict(given)
        if not {"DATABASE_URL", "MIGRATION_URL"} <= given.keys():
            variables = stack.enter_context(containers()) if engine_answers() else {}
        with patch.dict(os.environ, variables):  # only during the start: `make run` reads them too
            postgres = stack.enter_context(services.postgres(state))
            redis = stack.enter_context(services.redis(state))
        yield postgres, redis


def engine_answers() -> bool:
    """Whether a container engine is available. Without one the client fails within milliseconds."""
    try:
        completed = subprocess.run(ASK, capture_output=True, timeout=ASK_SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return completed.returncode == 0 and completed.stdout.strip() != b""


@contextmanager
def containers() -> Iterator[dict[str, str]]:
    """Start Postgres and Redis of infra/compose.yaml on free ports; their environment variables."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow to import

    composed = yaml.safe_load(COMPOSE.read_text())["services"]
    with ExitStack() as stack:

        def start(name: str, port: int, *volumes: tuple[str, str]) -> str:
            service = composed[name]
            container: Any = DockerContainer(service["image"]).with_exposed_ports(port)
            for variable, value in service.get("environment", {}).items():
                container.with_env(variable, value)
            for source, target in volumes:
                container.with_volume_mapping(source, target)
            if "command" in service:
                container.with_command(service["command"])
            stack.enter_context(container)
            return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"

        init = "/docker-entrypoint-initdb.d/owner.sql"
        postgres = start("postgres", 5432, (str(ROOT / "infra/compose/owner.sql"), init))
        redis = start("redis", 6379)
        migration_url = f"postgresql://{services.OWNER}@{postgres}/{services.DATABASE}"
        _wait_until_up(migration_url)
        yield {
            "DATABASE_URL": f"postgresql://{services.APP}@{postgres}/{services.DATABASE}",
            "MIGRATION_URL": migration_url,
            "REDIS_URL": f"redis://{redis}",
        }


def _wait_until_up(url: str) -> None:
    """Wait until the server listens on its port; the init server of the image has none."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
