"""The user that infra/cache.yaml makes may do what the code does with Redis, and nothing else."""

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
"""What logging in needs no right for, and what this test itself asks."""
OF_NEW_SERVERS = {"client|setinfo"}
"""What the client tells a server of itself: since Redis 7.2, and Valkey."""


@pytest.fixture
def server(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """A Redis where the code is the user of the stack; the fixture is who may do anything."""
    assert engine
    monkeypatch.delenv("REDIS_URL")
    with services.redis(tmp_path) as own, redis.Redis.from_url(own.url) as admin:
        make_user(admin, RIGHTS)
        socket = urlsplit(own.url).path
        monkeypatch.setenv("REDIS_URL", f"unix://app@{socket}?password=opens-nothing")
        forget()
        yield admin


def make_user(admin: redis.Redis, rights: list[str]) -> None:
    too_new = OF_NEW_SERVERS if version(admin) < (7, 2) else set()
    known = [right for right in rights if right.removeprefix("+") not in too_new]
    admin.execute_command("ACL", "SETUSER", "app", "reset", ">opens-nothing", *known)
    admin.execute_command("CONFIG", "RESETSTAT")


def version(admin: redis.Redis) -> tuple[int, ...]:
    facts: dict[str, Any] = admin.info("server")
    return tuple(int(part) for part in str(facts["redis_version"]).split("."))


def use_everything(name: str) -> None:
    """What the functions ask of Redis, each of it once or more."""
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


def test_the_user_may_do_what_the_code_does_and_nothing_else(
    server: redis.Redis, name: str
) -> None:
    use_everything(name)

    assert used(server) | OF_NEW_SERVERS == COMMANDS
    assert server.execute_command("ACL", "LOG") == []  # nothing was refused


def test_the_user_may_touch_no_keys_but_openreserves(server: redis.Redis) -> None:
    assert server.ping()
    with redis.Redis.from_url(settings().redis_url) as app:
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.get("somebody-else")
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.flushall()
        assert app.get("openreserve:news") is None


def test_an_unauthenticated_caller_gets_nothing() -> None:
    group = STACK["Resources"]["UserGroup"]["Properties"]
    user = STACK["Resources"]["User"]["Properties"]

    assert RIGHTS[0] == "on"
    assert "-@all" in RIGHTS
    assert [member.argument for member in group["UserIds"]] == ["User"]
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]  # or IAM refuses
    assert "@all" not in COMMANDS
