"""The template, as the local runtime reads it, and what has to agree with it."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from infra import openapi
from infra.local import template
from infra.local.intrinsics import TemplateError
from openreserve.problems import STATUSES, UNFORESEEN
from openreserve.routes import EVERYTHING_ELSE, ROUTES, methods_at
from openreserve.settings import Settings
from tests.calls import EVENTS, HANDLERS, sample

ROOT = Path(__file__).parents[2]
PARAMETERS = {"DatabaseUrl": "postgresql://db", "MigrationUrl": "postgresql://owner@db"}

TEMPLATE = template.load(ROOT / "template.yaml", PARAMETERS, "http://aws")
FUNCTIONS = {function.name: function for function in TEMPLATE.functions}


def routes() -> Iterator[str]:
    for function in FUNCTIONS.values():
        yield from function.routes


def test_the_table_of_routes_has_what_the_template_routes() -> None:
    known = {f"{method} {path}" for path, methods in ROUTES.items() for method in methods}

    assert sorted(routes()) == sorted(known | {EVERYTHING_ELSE})


def test_the_handlers_carry_out_what_the_template_routes() -> None:
    carried_out = {route for operation in openapi.OPERATIONS for route in operation.routes}

    assert set(routes()) - {EVERYTHING_ELSE} == carried_out


def test_every_route_has_a_sample_event_that_its_handler_knows() -> None:
    samples = {sample(name)["routeKey"]: name for name in HANDLERS}

    assert set(samples) == set(routes())
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


def test_a_path_takes_the_methods_of_its_template() -> None:
    assert methods_at("/api/v1/resources/hotel-room-101") == ("GET",)
    assert methods_at("/api/v1/resources") == ("GET", "POST")
    assert methods_at("/api/v1/resources/a/b") == ()
    assert methods_at("/api/v1/reserve/") == ()


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


def test_every_variable_that_the_template_sets_is_one_that_the_code_reads() -> None:
    read = {setting.name.upper() for setting in fields(Settings)}
    read |= {"AWS_ENDPOINT_URL", "POWERTOOLS_SERVICE_NAME"}  # by libraries

    for function in FUNCTIONS.values():
        assert set(function.environment) <= read


def test_defaults_of_the_template_are_those_of_the_code() -> None:
    known = {setting.name.upper(): str(setting.default) for setting in fields(Settings)}
    given = {
        "AWS_ENDPOINT_URL",
        "DATABASE_URL",
        "MIGRATE_FUNCTION_NAME",
        "MIGRATION_URL",
        "POWERTOOLS_SERVICE_NAME",
    }
    for function in FUNCTIONS.values():
        for variable, value in function.environment.items():
            if variable not in given and not variable.endswith("QUEUE_URL"):
                assert value == known[variable], variable


def test_webhooks_do_not_know_where_postgres_and_redis_are() -> None:
    for name in ("WebhookFunction", "EndpointsFunction"):
        environment = FUNCTIONS[name].environment
        assert (environment["DATABASE_URL"], environment["REDIS_URL"]) == ("", "")


def test_an_event_is_given_up_after_as_many_attempts_as_there_are_waits_and_one() -> None:
    queues = {queue.name: queue for queue in TEMPLATE.queues}
    redrive = json.loads(queues["WebhookQueue"].attributes["RedrivePolicy"])

    assert int(redrive["maxReceiveCount"]) == len(Settings().webhook_schedule_seconds) + 1
    assert redrive["deadLetterTargetArn"].endswith(":DeadLetterQueue")


def test_messages_stay_hidden_for_six_times_as_long_as_their_function_may_take() -> None:
    """What AWS asks for: a batch may be throttled and tried again before it is seen anew."""
    queues = {queue.name: queue for queue in TEMPLATE.queues}
    (trigger,) = FUNCTIONS["WebhookFunction"].queues

    assert trigger.queue_url == "http://aws/123456789012/WebhookQueue"
    assert trigger.partial_failures
    visible_after = int(queues["WebhookQueue"].attributes["VisibilityTimeout"])
    assert visible_after >= 6 * FUNCTIONS["WebhookFunction"].timeout_seconds
    kept_seconds = int(queues["WebhookQueue"].attributes["MessageRetentionPeriod"])
    assert kept_seconds > sum(Settings().webhook_schedule_seconds) * 1.2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("Type: AWS::Logs::LogGroup", "Type: AWS::SNS::Topic"), "Logs: .*AWS::SNS::Topic"),
        (("    Tracing: Active", "    EphemeralStorage: {Size: 512}"), "EphemeralStorage"),
        (("Type: HttpApi\n", "Type: S3\n"), "events of type S3"),
        (("rate(1 minute)", "cron(0 9 * * MON *)"), "the schedule cron"),
        (("!Ref DatabaseUrl", "!ImportValue Database"), "!ImportValue"),
        (("VisibilityTimeout: 360", "DelaySeconds: 3"), "WebhookQueue: .*DelaySeconds"),
        (("BatchSize: 10", "Enabled: false"), "unknown of a queue here: Enabled"),
        (("!GetAtt WebhookQueue.Arn", "!GetAtt Logs.Arn"), "!GetAtt Logs.Arn"),
        (("    Default: 300", ""), "without a value: TtlSecondsDefault"),
        (("StageDatabase: !Equals", "StageDatabase: !Or"), "the condition .*Or"),
    ],
)
def test_what_the_runtime_does_not_know_it_refuses_to_run(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    text = (ROOT / "template.yaml").read_text()
    assert change[0] in text
    (tmp_path / "template.yaml").write_text(text.replace(*change))

    with pytest.raises(TemplateError, match=complaint):
        template.load(tmp_path / "template.yaml", PARAMETERS)


def test_a_server_of_ones_own_stands_in_for_those_of_the_stage() -> None:
    environment = FUNCTIONS["ReserveFunction"].environment

    assert (environment["DATABASE_AUTH"], environment["REDIS_AUTH"]) == ("url", "url")
    assert environment["REDIS_URL"] == ""
    assert FUNCTIONS["MigrateFunction"].environment["MIGRATION_SECRET_ARN"] == ""


def test_without_one_there_is_nothing_to_run_on_here() -> None:
    with pytest.raises(TemplateError, match="is unknown here"):
        template.load(ROOT / "template.yaml", {})


def test_what_is_in_parameter_store_is_not_read(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    changed = text.replace("REDIS_URL: !If", "CACHE: !Ref CacheName\n        REDIS_URL: !If")
    (tmp_path / "template.yaml").write_text(changed)

    with pytest.raises(TemplateError, match="CacheName is in Parameter Store"):
        template.load(tmp_path / "template.yaml", PARAMETERS)


def test_a_parameter_that_the_template_does_not_have_is_refused() -> None:
    with pytest.raises(TemplateError, match="Databse"):
        template.load(ROOT / "template.yaml", PARAMETERS | {"Databse": "x"})


def test_the_openapi_document_is_valid_and_the_one_that_the_code_makes() -> None:
    made = json.loads(json.dumps(openapi.document()))

    validate(made)
    assert json.loads(openapi.__file__ and (ROOT / "infra/openapi.json").read_text()) == made, (
        "run make openapi"
    )


def test_the_openapi_document_has_every_code_that_can_be_answered() -> None:
    text = json.dumps(openapi.document()["paths"])
    elsewhere = {"method_not_allowed", "route_not_found"}  # of no path at all

    for _, code in [*STATUSES.values(), UNFORESEEN]:
        assert (f"`{code}`" in text) != (code in elsewhere), code
