"""The ACL of infra/cache.yaml allows the commands that the code uses, and no others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from infra.local import services
from infra.local.template.intrinsics import Loader
from openreserve.cache import hints
from openreserve.runtime.settings import settings
from tests.conftest import Engine, forget
from tests.support.handlers import commit, hold, release, reserve, set_stock

ROOT = Path(__file__).parents[2]
STACK = yaml.load((ROOT / "infra/cache.yaml").read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
ACCESS_STRING: str = STACK["Resources"]["User"]["Properties"]["AccessString"]
RIGHTS = ACCESS_STRING.split()
COMMANDS = {right.removeprefix("+") for right in RIGHTS if right.startswith("+")}
UNAUTHENTICATED = {"acl", "auth", "config", "hello", "info"}
"""Commands that logging in allows without a rule, and those of this test."""
NEW_SERVER_COMMANDS = {"client|setinfo"}
"""Commands by which the client names its library: since Redis 7.2, and Valkey."""


@pytest.fixture
def server(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """A Redis where the code uses the ACL of the stack. The fixture is the administrator."""
    assert engine
    monkeypatch.delenv("REDIS_URL")
    with services.redis(tmp_path) as own, redis.Redis.from_url(own.url) as admin:
        make_user(admin, RIGHTS)
        socket = urlsplit(own.url).path
        monkeypatch.setenv("REDIS_URL", f"unix://app@{socket}?password=opens-nothing")
        monkeypatch.setenv("REDIS_TIMEOUT_MS", "5000")  # rights are tested here, not promptness
        forget()
        yield admin


def make_user(admin: redis.Redis, rights: list[str]) -> None:
    unknown_commands = NEW_SERVER_COMMANDS if version(admin) < (7, 2) else set()
    granted = [right for right in rights if right.removeprefix("+") not in unknown_commands]
    admin.execute_command("ACL", "SETUSER", "app", "reset", ">opens-nothing", *granted)
    admin.execute_command("CONFIG", "RESETSTAT")


def version(admin: redis.Redis) -> tuple[int, ...]:
    facts: dict[str, Any] = admin.info("server")
    return tuple(int(part) for part in str(facts["redis_version"]).split("."))


def use_everything(name: str) -> None:
    """Run every Redis command of the functions at least once."""
    set_stock(name, 2)
    for _ in "the call", "its repeat":
        assert reserve((name, 1), key=name).status == 200
    token = hold((name, 1))
    assert reserve((name, 1)).code == "out_of_stock"
    assert reserve((name, 1)).code == "out_of_stock"
    release(token)
    commit(hold((name, 1)))
    hints.wait_for_due(0.01, 10)
    hints.wait_for_news(0.01)
    assert hints.ping()


def used(admin: redis.Redis) -> set[str]:
    counted: dict[str, Any] = admin.info("commandstats")
    names = {name.removeprefix("cmdstat_") for name in counted}
    return {name for name in names if name.partition("|")[0] not in UNAUTHENTICATED}


def test_the_user_may_run_the_commands_of_the_code_and_no_others(
    server: redis.Redis, name: str
) -> None:
    use_everything(name)

    assert used(server) | NEW_SERVER_COMMANDS == COMMANDS
    assert server.execute_command("ACL", "LOG") == []  # nothing was refused


def test_the_user_may_access_only_the_keys_of_openreserve(server: redis.Redis) -> None:
    assert server.ping()
    with redis.Redis.from_url(settings().redis_url) as app:
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.get("somebody-else")
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.flushall()
        assert app.get("openreserve:news") is None


def test_an_unauthenticated_caller_may_run_no_command() -> None:
    group = STACK["Resources"]["UserGroup"]["Properties"]
    user = STACK["Resources"]["User"]["Properties"]

    assert RIGHTS[0] == "on"
    assert "-@all" in RIGHTS
    assert [member.argument for member in group["UserIds"]] == ["User"]
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]  # IAM authentication requires this
    assert "@all" not in COMMANDS
