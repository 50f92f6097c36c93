"""The output of `sam build` without Docker is complete and runs."""

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from infra.deploy.settings import fingerprint
from infra.local.aws import Aws, sqs
from infra.local.template import model
from infra.local.template.intrinsics import ACCOUNT
from openreserve.postgres import sql
from tests.conftest import SHOWN, Engine, delete_queues
from tests.e2e.building import MACHINES, Built, build, python_of_lambda
from tests.e2e.emulator import Image, compiled_at_start, emulated, image
from tests.e2e.runtime import ROOT
from tests.support.handlers import hold, sample, set_stock
from tests.support.receiver import CommandError, Receiver

LAYERS_UNZIPPED_MB_MAX = 250
"""The limit of Lambda for a function with its layers."""
HERE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())

Builds = Callable[[str], Built]
"""Takes the name of a processor."""
Deployed = Callable[..., Any]
"""Takes the name of a function and an event, and returns the response of the function."""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return cache(lambda processor: build(tmp_path_factory.mktemp("source"), processor))


@pytest.fixture(scope="module", params=MACHINES)
def built(request: pytest.FixtureRequest, builds: Builds) -> Built:
    return builds(request.param)


@pytest.fixture(scope="module")
def around(builds: Builds, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return image(builds(HERE), tmp_path_factory.mktemp("image"))


def test_the_package_of_each_function_contains_only_its_handler(built: Built) -> None:
    for function in built.functions:
        files = [path.name for path in (built.folder / function.name).iterdir() if path.is_file()]
        assert files == ["app.py"], function.name


def test_the_openreserve_layer_contains_the_package_with_its_sql(built: Built) -> None:
    source = ROOT / "layers/openreserve/openreserve"
    layer = built.folder / "OpenReserveLayer/python/openreserve"

    assert [path.name for path in layer.parent.iterdir()] == ["openreserve"]
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (layer / path.relative_to(source)).read_bytes() == path.read_bytes()


def test_the_dependencies_are_built_for_the_processor_of_lambda(built: Built) -> None:
    layer = built.folder / "DependenciesLayer/python"
    libraries = [path.name for path in layer.rglob("*.cpython-*.so")]

    assert {"psycopg_binary", "pydantic_core", "redis", "aws_lambda_powertools"} <= {
        path.name for path in layer.iterdir()
    }
    assert libraries
    machine = f"cpython-313-{MACHINES[built.processor]}"
    assert all(machine in library for library in libraries), libraries


def test_each_module_of_the_layers_is_compiled_for_the_python_of_lambda(built: Built) -> None:
    """Unchecked hash-based .pyc files of PEP 552, which Python does not compare with the source."""
    magic = subprocess.run(
        [python_of_lambda(), "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for layer in built.layers:
        sources = list(layer.rglob("*.py"))
        assert len(sources) > 20
        for source in sources:
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
            head = compiled.read_bytes()[:8]
            assert (head[:4].hex(), head[4:]) == (magic, b"\x01\0\0\0"), compiled


def test_tracebacks_contain_the_file_paths_of_lambda(built: Built) -> None:
    compiled = (
        built.folder
        / "OpenReserveLayer/python/openreserve/http/__pycache__/handler.cpython-313.pyc"
    )

    assert b"/opt/python/openreserve/http/handler.py" in compiled.read_bytes()
    assert bytes(built.source) not in compiled.read_bytes()


def test_a_cold_start_compiles_no_module_of_the_layers(builds: Builds, around: Image) -> None:
    """For every function: on the read-only disk of Lambda each cold start would repeat it."""
    built = builds(HERE)
    before = sorted(around.opt.rglob("*"))

    for function in built.functions:
        assert compiled_at_start(around, built.folder / function.name) == [], function.name

    assert sorted(around.opt.rglob("*")) == before
    code = built.folder / "ReserveFunction"
    without = compiled_at_start(around, code, PYTHONPYCACHEPREFIX="/nowhere")
    assert len(without) > 100, "compiled without __pycache__"


def test_the_makefile_of_the_layer_and_the_template_name_the_same_processor() -> None:
    makefile = (ROOT / "layers/dependencies/Makefile").read_text()
    template_text = (ROOT / "template.yaml").read_text()

    assert "ARCHITECTURE ?= aarch64\n" in makefile
    assert "Architectures: [arm64]" in template_text
    assert "x86_64" not in template_text


def test_builds_are_reproducible(builds: Builds, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Otherwise each deployment would publish new versions of unchanged code."""
    again, built = build(tmp_path_factory.mktemp("again"), HERE), builds(HERE)

    assert contents(again.folder) == contents(built.folder)
    assert fingerprint(again.folder, {}, {}) == fingerprint(built.folder, {}, {})


def contents(folder: Path) -> dict[str, str]:
    """The hash of each file, including compiled modules."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_packages_are_within_the_size_limits_of_lambda(
    built: Built, record_property: Callable[[str, str], None]
) -> None:
    sizes = {
        layer.name: sum(path.stat().st_size for path in layer.rglob("*")) for layer in built.layers
    }
    summary = ", ".join(f"{name} {size / 10**6:.1f} MB" for name, size in sizes.items())
    record_property(SHOWN, f"built for {built.processor}, unzipped: {summary}")

    assert sum(sizes.values()) < LAYERS_UNZIPPED_MB_MAX * 10**6 / 4, "a start reads all of it"


@pytest.fixture
def parameters(engine: Engine, own_aws: Aws, name: str) -> dict[str, str]:
    """The template parameters: real servers and short waits."""
    return {
        "DatabaseUrl": engine.database_url,
        "MigrationUrl": engine.owner_url,
        "RedisUrl": engine.redis_url,
        "AwsEndpointUrl": own_aws.url,
        "ExpireStaySeconds": "2",
        "WebhookSecretsPrefix": f"{name}/",
        "WebhookDevelopment": "1",
    }


@pytest.fixture
def deployed(
    parameters: dict[str, str], own_aws: Aws, builds: Builds, around: Image, tmp_path: Path
) -> Iterator[Deployed]:
    """Invokes a built function in a new execution environment."""
    built = builds(HERE)

    def call(name: str, event: Mapping[str, Any]) -> Any:
        loaded = model.load(built.source / "template.yaml", parameters, own_aws.url)
        sqs.create(own_aws, loaded.queues)
        (function,) = [each for each in loaded.functions if each.name == name]
        function = replace(function, code=built.folder / name)
        with emulated(around, function, tmp_path / f"{name}.log", own_aws.variables) as environment:
            return environment.invoke(event)

    yield call
    delete_queues(own_aws)


def with_body(sample_name: str, **fields: Any) -> dict[str, Any]:
    """A sample event with other fields in its body."""
    event = sample(sample_name)
    event["body"] = json.dumps(json.loads(event["body"]) | fields)
    return event


def body(answer: Mapping[str, Any], status: int = 200) -> Any:
    assert answer.get("statusCode") == status, answer
    return json.loads(answer["body"])


def test_the_built_reserve_function_holds_stock(
    deployed: Deployed, engine: Engine, name: str
) -> None:
    set_stock(name, 5)
    event = with_body("reserve", resourceId=name)
    event["headers"]["idempotency-key"] = name

    token = body(deployed("ReserveFunction", event))["token"]

    assert engine.sql("SELECT status FROM openreserve.reservations WHERE token = %s", token) == [
        ("HELD",)
    ]


@pytest.mark.parametrize(
    ("function", "verb", "status"),
    [("CommitFunction", "commit", "COMMITTED"), ("ReleaseFunction", "release", "RELEASED")],
)
def test_the_built_commit_and_release_functions_settle_a_hold(
    deployed: Deployed, name: str, function: str, verb: str, status: str
) -> None:
    set_stock(name, 5)
    token = hold((name, 1))

    assert body(deployed(function, with_body(verb, token=token)))["status"] == status


def test_the_built_stock_function_connects_to_postgres_and_redis(deployed: Deployed) -> None:
    health = body(deployed("StockFunction", sample("health")))

    assert (health["postgres"], health["redis"]) == ("ok", "ok")


def test_the_built_backoffice_function_adjusts_stock(deployed: Deployed, name: str) -> None:
    set_stock(name, 5)
    event = with_body("adjust-stock", resourceId=name, difference=2)
    event["headers"]["idempotency-key"] = name

    assert body(deployed("BackofficeFunction", event))["totalStock"] == 7


def test_the_built_expire_function_closes_an_expired_hold(deployed: Deployed, name: str) -> None:
    set_stock(name, 5)
    hold((name, 1), ttl_seconds=1)

    response = deployed("ExpireFunction", sample("expire"))

    assert response.keys() == {"closed", "handedOn"}
    assert response["closed"] >= 1


def test_the_built_reconcile_function_counts_its_repairs(deployed: Deployed, name: str) -> None:
    set_stock(name, 1)
    hold((name, 1), ttl_seconds=60)  # the last one: an event, and a deadline

    response = deployed("ReconcileFunction", sample("reconcile"))

    assert response.keys() == {"closed", "handedOn", "deadlines", "purged", "drifting"}
    assert response["handedOn"] >= 1
    assert response["deadlines"] >= 1
    assert response["drifting"] == 0


def test_the_built_endpoints_and_webhook_functions_deliver_and_dead_letter(
    deployed: Deployed, receiver: Receiver, own_aws: Aws
) -> None:
    """One message fans out successfully, the other one is for an endpoint that fails."""
    secret = body(
        deployed(
            "EndpointsFunction", with_body("save-endpoint", endpointId="shop", url=receiver.url)
        ),
        201,
    )["secret"]
    receiver.answers["/"] = CommandError(500)

    response = deployed("WebhookFunction", sample("webhook"))

    assert response == {"batchItemFailures": []}
    retries = own_aws.client("sqs").get_queue_attributes(
        QueueUrl=f"{own_aws.url}/{ACCOUNT}/WebhookRetryQueue", AttributeNames=["All"]
    )
    assert retries["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"
    assert [delivery.is_signed_with(secret) for delivery in receiver.received] == [True]


def test_the_built_migrate_function_creates_the_schema(
    deployed: Deployed, parameters: dict[str, str], engine: Engine, name: str
) -> None:
    owner = urlsplit(engine.owner_url)
    superuser = engine.owner_url.replace(str(owner.username), "postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" OWNER {owner.username}'.encode())
    parameters["MigrationUrl"] = urlunsplit(owner._replace(path=name))

    response = deployed("MigrateFunction", sample("migrate"))

    assert response == {"applied": [file for file, _ in (*sql.migrations(), *sql.routines())]}


def test_the_built_audit_function_verifies_and_repairs(
    deployed: Deployed, engine: Engine, name: str
) -> None:
    engine.sql(
        "INSERT INTO openreserve.resources (resource_id, total_stock, available_stock)"
        " VALUES (%s, 5, 4)",
        name,
    )

    report = deployed("AuditFunction", sample("verify"))
    repaired = deployed("AuditFunction", {"resourceIds": [name], "reason": "counted"})

    assert [row["difference"] for row in report["drift"] if row["resource_id"] == name] == [1]
    assert repaired == {
        "repairs": [
            {"resource_id": name, "outcome": "repaired", "difference": 1, "marks_mended": 0}
        ]
    }


def test_the_built_hook_function_calls_lambda_and_codedeploy(deployed: Deployed) -> None:
    """Neither is reachable here: the deployment gets no result, and stops at its timeout."""
    response = deployed("BeforeTrafficFunction", sample("before-traffic"))

    assert response["errorType"] == "ClientError"
    assert "PutLifecycleEventHookExecutionStatus" in response["errorMessage"]


def test_a_built_function_imports_only_from_its_package_and_the_layers(
    around: Image, deployed: Deployed
) -> None:
    """Without a library in the layer the function fails, although it is installed locally."""
    library = around.opt / "python/pydantic"
    shutil.move(library, around.opt)
    try:
        response = deployed("ReserveFunction", sample("reserve"))
    finally:
        shutil.move(around.opt / "pydantic", library)

    assert response["errorType"] == "Runtime.ImportModuleError"
    assert "No module named 'pydantic'" in response["errorMessage"]


def test_every_built_function_is_invoked_by_a_test(builds: Builds) -> None:
    """A new function needs a test above."""
    source = Path(__file__).read_text()
    for function in builds(HERE).functions:
        assert f'"{function.name}"' in source
