"""The local runtime's reading of template.yaml, and its agreement with the code."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from infra.local.template import model
from infra.local.template.intrinsics import TemplateError, read
from infra.openapi.operations import handlers, operations
from openreserve.http.routes import EVERYTHING_ELSE, ROUTES, methods_at
from openreserve.runtime.settings import WAIT_SECONDS_MAX, WAITS_MAX, Settings
from tests.support.handlers import EVENTS, HANDLERS, sample

ROOT = Path(__file__).parents[2]
PARAMETERS = {"DatabaseUrl": "postgresql://db", "MigrationUrl": "postgresql://owner@db"}

TEMPLATE = model.load(ROOT / "template.yaml", PARAMETERS, "http://aws")
FUNCTIONS = {function.name: function for function in TEMPLATE.functions}


def routes() -> Iterator[str]:
    for function in FUNCTIONS.values():
        yield from function.routes


def test_the_template_routes_what_is_declared() -> None:
    declared = [key for route in ROUTES for key in route.keys]

    assert sorted(routes()) == sorted([EVERYTHING_ELSE.key, *declared])


def test_each_declared_route_has_one_operation_in_the_function_that_the_template_names() -> None:
    assert [route for operation in operations() for route in operation.routes] == list(ROUTES)
    functions = {key: function for function in FUNCTIONS.values() for key in function.routes}
    for route in ROUTES:
        for key in route.keys:
            module = f"functions.{functions[key].code.name}.app"
            assert import_module(module).handler is handlers()[route], key


def test_every_route_has_a_sample_event_that_its_handler_accepts() -> None:
    samples = {sample(name)["routeKey"]: name for name in HANDLERS}

    assert set(samples) == {route for route in routes() if not route.startswith("HEAD ")}
    assert {path.stem for path in EVENTS.glob("*.json")} == {
        *HANDLERS,
        "migrate",
        "verify",
        "repair",
        "before-traffic",
        "expire",
        "reconcile",
        "webhook",
    }


def test_a_path_accepts_the_methods_of_its_route() -> None:
    assert methods_at("/api/v1/resources/hotel-room-101") == ["GET", "HEAD"]
    assert methods_at("/api/v1/resources/{y}") == ["GET", "HEAD"]
    assert methods_at("/api/v1/resources") == ["GET", "HEAD", "POST"]
    assert methods_at("/api/v1/resources/a/b") == []
    assert methods_at("/api/v1/reserve/") == []


def test_globals_and_parameters_reach_every_function() -> None:
    reserve, migrate = FUNCTIONS["ReserveFunction"], FUNCTIONS["MigrateFunction"]

    assert reserve.code == ROOT / "functions/reserve/"
    assert (reserve.handler, reserve.timeout_seconds) == ("app.handler", 10)
    assert reserve.environment["DATABASE_URL"] == "postgresql://db"
    assert reserve.environment["TTL_SECONDS_MAX"] == "86400"
    assert "MIGRATION_URL" not in reserve.environment
    assert migrate.timeout_seconds == 840
    assert migrate.environment["MIGRATION_URL"] == "postgresql://owner@db"
    assert migrate.environment["DATABASE_URL"] == ""


def test_every_variable_set_by_the_template_is_read_by_the_code() -> None:
    read = {setting.name.upper() for setting in fields(Settings)}
    read |= {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME"}  # read by libraries

    for function in FUNCTIONS.values():
        assert set(function.environment) <= read


def test_defaults_of_the_template_match_the_code() -> None:
    known = {setting.name.upper(): str(setting.default) for setting in fields(Settings)}
    environment_only = {
        "AWS_ENDPOINT_URL",
        "DATABASE_URL",
        "MIGRATE_FUNCTION_NAME",
        "MIGRATION_URL",
        "POWERTOOLS_SERVICE_NAME",
    }
    for function in FUNCTIONS.values():
        for variable, value in function.environment.items():
            if variable not in environment_only and not variable.endswith("QUEUE_URL"):
                assert value == known[variable], variable


def test_the_webhook_function_has_no_postgres_or_redis_url() -> None:
    for name in ("WebhookFunction", "EndpointsFunction"):
        environment = FUNCTIONS[name].environment
        assert (environment["DATABASE_URL"], environment["REDIS_URL"]) == ("", "")


def test_sqs_dead_letters_no_message_that_the_function_still_retries() -> None:
    """The function counts attempts by its list of waits. The queue only limits crashes."""
    queues = {queue.name: queue for queue in TEMPLATE.queues}
    waits_max = int(re.findall(r"\{0,(\d+)\}", pattern_of("WebhookRetrySeconds"))[-1]) + 1

    assert waits_max == WAITS_MAX
    for name in ("WebhookQueue", "WebhookRetryQueue"):
        redrive = json.loads(queues[name].attributes["RedrivePolicy"])
        assert int(redrive["maxReceiveCount"]) >= 2 * waits_max
        assert redrive["deadLetterTargetArn"].endswith(":DeadLetterQueue")


def pattern_of(parameter: str) -> str:
    pattern: str = read(ROOT / "template.yaml")["Parameters"][parameter]["AllowedPattern"]
    return pattern


def test_the_visibility_timeout_is_six_times_the_function_timeout() -> None:
    """AWS recommends this: a throttled batch is retried before it becomes visible again."""
    queues = {queue.name: queue for queue in TEMPLATE.queues}
    function = FUNCTIONS["WebhookFunction"]

    assert [trigger.queue_url.rpartition("/")[2] for trigger in function.queues] == [
        "WebhookQueue",
        "WebhookRetryQueue",
    ]
    for name, trigger in zip(("WebhookQueue", "WebhookRetryQueue"), function.queues, strict=True):
        assert trigger.partial_failures
        assert int(queues[name].attributes["VisibilityTimeout"]) >= 6 * function.timeout_seconds
        assert int(queues[name].attributes["MessageRetentionPeriod"]) > WAIT_SECONDS_MAX * 1.1


def test_only_retries_are_delivered_in_batches() -> None:
    first_attempts, retries = FUNCTIONS["WebhookFunction"].queues

    assert (first_attempts.batch_size, retries.batch_size) == (1, 10)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("Type: AWS::Logs::LogGroup", "Type: AWS::SNS::Topic"), "Logs: .*AWS::SNS::Topic"),
        (("    Tracing: Active", "    EphemeralStorage: {Size: 512}"), "EphemeralStorage"),
        (("Type: HttpApi\n", "Type: S3\n"), "events of type S3"),
        (("rate(1 minute)", "cron(0 9 * * MON *)"), "the schedule cron"),
        (("!Ref DatabaseUrl", "!ImportValue Database"), "!ImportValue"),
        (("VisibilityTimeout: 360", "DelaySeconds: 3"), "WebhookQueue: .*DelaySeconds"),
        (("BatchSize: 1 ", "Enabled: false "), "unknown of a queue here: Enabled"),
        (("!GetAtt WebhookQueue.Arn", "!GetAtt Logs.Arn"), "!GetAtt Logs.Arn"),
        (("    Default: 300", ""), "without a value: TtlSecondsDefault"),
        (("StageDatabase: !Equals", "StageDatabase: !Or"), "the condition .*Or"),
    ],
)
def test_an_unsupported_template_feature_is_refused(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = (ROOT / "template.yaml").read_text()
    assert change[0] in text
    (tmp_path / "template.yaml").write_text(text.replace(*change))

    with pytest.raises(TemplateError, match=complaint):
        model.load(tmp_path / "template.yaml", PARAMETERS)


def test_a_configured_server_replaces_those_of_the_stage() -> None:
    environment = FUNCTIONS["ReserveFunction"].environment

    assert (environment["DATABASE_AUTH"], environment["REDIS_AUTH"]) == ("url", "url")
    assert environment["REDIS_URL"] == ""
    assert FUNCTIONS["MigrateFunction"].environment["MIGRATION_SECRET_ARN"] == ""


def test_without_a_configured_server_the_stage_cannot_run_locally() -> None:
    with pytest.raises(TemplateError, match="DatabaseProxyHost is in Parameter Store"):
        model.load(ROOT / "template.yaml", {})


def test_sub_replaces_parameters_and_pseudo_parameters(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    changed = text.replace(
        "ITEMS_MAX: !Ref ItemsMax",
        'ITEMS_MAX: !Sub "${ItemsMax} of ${AWS::StackName} to ${WebhookQueue.Arn}"',
    )
    (tmp_path / "template.yaml").write_text(changed)

    loaded = model.load(tmp_path / "template.yaml", PARAMETERS)

    assert loaded.functions[0].environment["ITEMS_MAX"] == (
        "50 of openreserve to arn:aws:sqs:eu-central-1:123456789012:WebhookQueue"
    )


def test_parameter_store_values_are_not_read(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    changed = text.replace("REDIS_URL: !If", "CACHE: !Ref CacheName\n        REDIS_URL: !If")
    (tmp_path / "template.yaml").write_text(changed)

    with pytest.raises(TemplateError, match="CacheName is in Parameter Store"):
        model.load(tmp_path / "template.yaml", PARAMETERS)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(TemplateError, match="Databse"):
        model.load(ROOT / "template.yaml", PARAMETERS | {"Databse": "x"})
