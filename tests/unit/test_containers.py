"""The servers of the tests: given by URL, containers if Docker is available, or embedded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from testcontainers.core import container as library

from tests.conftest import Engine
from tests.support import containers

GOES = "#!/bin/sh\necho 28.3.2\n"
NO_ENGINE = "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n"
HANGS = "#!/bin/sh\nexec sleep 30\n"


@pytest.fixture
def urls(engine: Engine) -> dict[str, str]:
    """The URLs of running servers."""
    return {
        "DATABASE_URL": engine.database_url,
        "MIGRATION_URL": engine.owner_url,
        "REDIS_URL": engine.redis_url,
    }


@pytest.fixture
def started(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Starts and stops of the fake containers."""
    notes: list[str] = []

    @contextmanager
    def fake() -> Iterator[dict[str, str]]:
        notes.append("started")
        yield urls
        notes.append("stopped")

    monkeypatch.setattr(containers, "containers", fake)
    return notes


def docker(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "docker"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_with_a_docker_engine_the_servers_run_in_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    docker(tmp_path, GOES, monkeypatch)

    with containers.servers(tmp_path, {}) as (postgres, redis):
        assert started == ["started"]
        assert "at DATABASE_URL" in postgres.title
        assert "at REDIS_URL" in redis.title

    assert started == ["started", "stopped"]


def test_without_a_docker_engine_the_servers_are_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("REDIS_URL")
    docker(tmp_path, NO_ENGINE, monkeypatch)

    with containers.servers(tmp_path, {}) as (postgres, _):
        assert postgres.title.endswith("embedded")

    assert started == []


def test_server_urls_take_precedence_over_a_docker_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str], urls: dict[str, str]
) -> None:
    docker(tmp_path, GOES, monkeypatch)

    with containers.servers(tmp_path, urls) as (postgres, redis):
        assert (postgres.app_url, redis.url) == (urls["DATABASE_URL"], urls["REDIS_URL"])

    assert started == []


def test_a_database_url_without_a_migration_url_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    docker(tmp_path, GOES, monkeypatch)

    with containers.servers(tmp_path, {"DATABASE_URL": "postgresql://somebody-elses/books"}):
        assert started == ["started"]


@pytest.mark.parametrize("script", [NO_ENGINE, HANGS])
def test_the_check_for_a_docker_engine_has_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    docker(tmp_path, script, monkeypatch)
    monkeypatch.setattr(containers, "ASK_SECONDS_MAX", 0.3)
    began = time.monotonic()

    assert not containers.engine_answers()

    assert time.monotonic() - began < 20
    assert capfd.readouterr() == ("", "")


def test_without_a_docker_client_there_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert not containers.engine_answers()


def test_containers_are_configured_by_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Container:
        def __init__(self, image: str) -> None:
            self.image, self.settings = image, dict[str, Any]()
            made.append(self)

        def with_exposed_ports(self, port: int) -> "Container":
            self.settings["port"] = port
            return self

        def with_env(self, name: str, value: str) -> None:
            self.settings[name] = value

        def with_volume_mapping(self, source: str, target: str) -> None:
            self.settings[target] = Path(source).read_text()

        def with_command(self, command: list[str]) -> None:
            self.settings["command"] = command[0]

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            self.settings["stopped"] = True

        def get_container_host_ip(self) -> str:
            return "docker.test"

        def get_exposed_port(self, port: int) -> int:
            return port + 10_000

    monkeypatch.setattr(library, "DockerContainer", Container)
    monkeypatch.setattr(containers, "_wait_until_up", lambda _: None)
    composed = yaml.safe_load(containers.COMPOSE.read_text())["services"]

    with containers.containers() as urls:
        assert urls == {
            "DATABASE_URL": "postgresql://openreserve_app@docker.test:15432/openreserve",
            "MIGRATION_URL": "postgresql://openreserve_owner@docker.test:15432/openreserve",
            "REDIS_URL": "redis://docker.test:16379",
        }

    postgres, redis = made
    assert postgres.image == composed["postgres"]["image"]
    assert redis.image == composed["redis"]["image"]
    assert postgres.settings["POSTGRES_HOST_AUTH_METHOD"] == "trust"
    assert (
        "CREATE ROLE openreserve_owner"
        in postgres.settings["/docker-entrypoint-initdb.d/owner.sql"]
    )
    assert redis.settings == {"port": 6379, "command": "valkey-server", "stopped": True}
