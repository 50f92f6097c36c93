"""Reads template.yaml: which functions there are, and what each is invoked by.

Refuses what it does not know, instead of running something else than AWS would.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local import cors
from infra.local.cors import Cors
from infra.local.template.intrinsics import Names, TemplateError, read, resolved, values_of

DEFAULT_ROUTE = "$default"


@dataclass(frozen=True, slots=True)
class Queue:
    """One AWS::SQS::Queue."""

    name: str
    attributes: Mapping[str, str]
    """As CreateQueue takes them."""


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    """A queue as an event source of a function."""

    queue_url: str
    queue_arn: str
    batch_size: int
    concurrency_max: int
    partial_failures: bool
    """Whether the function tells which messages of a batch are to come back."""
    window_seconds: int = 0
    """How long messages may wait for others to make a batch."""


@dataclass(frozen=True, slots=True)
class Function:
    """One AWS::Serverless::Function, with Globals applied and references resolved."""

    name: str
    code: Path
    handler: str
    timeout_seconds: int
    memory_mb: int
    environment: Mapping[str, str] = field(repr=False)
    routes: tuple[str, ...]
    """Route keys of API Gateway: `POST /reserve`, or `$default`."""
    every_seconds: tuple[int, ...]
    """How often its schedules call it."""
    queues: tuple[QueueTrigger, ...] = ()
    """The queues whose messages call it."""


@dataclass(frozen=True, slots=True)
class Template:
    """All that runs here of a template."""

    functions: tuple[Function, ...]
    queues: tuple[Queue, ...]
    cors: Cors | None = None
    """Which pages may call the API; None: none."""


_OF_AWS = {
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "AutoPublishCodeSha256",
    "DeploymentPreference",
    "EventInvokeConfig",
    "ProvisionedConcurrencyConfig",
    "ReservedConcurrentExecutions",
    "Role",
    "SnapStart",
    "VpcConfig",
}
"""Properties that matter only on AWS: here, everything may do everything, and is there at once."""
_FUNCTION_PROPERTIES = _OF_AWS | {
    "Architectures",
    "CodeUri",
    "Description",
    "Environment",
    "Events",
    "Handler",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "Runtime",
    "Timeout",
    "Tracing",
}

_EVENT_TYPES = {"HttpApi", "SQS", "ScheduleV2"}
_SQS_EVENT_PROPERTIES = {
    "BatchSize",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "Queue",
    "ScalingConfig",
}
_SCHEDULE_PROPERTIES_OF_AWS = {"DeadLetterConfig", "OmitName", "RetryPolicy", "RoleArn"}
_QUEUE_PROPERTIES_OF_AWS = {"KmsMasterKeyId", "SqsManagedSseEnabled"}
_QUEUE_PROPERTIES = _QUEUE_PROPERTIES_OF_AWS | {
    "MessageRetentionPeriod",
    "RedrivePolicy",
    "VisibilityTimeout",
}

_RESOURCES_HERE = {"AWS::SQS::Queue", "AWS::Serverless::Function"}

# These matter only on AWS: the layers are installed in .venv, and logs come to the terminal.
_RESOURCES_OF_AWS = {
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::Route53::RecordSet",
    "AWS::SQS::QueuePolicy",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::LayerVersion",
    "Custom::Migration",
}


def load(path: Path, parameters: Mapping[str, str], aws_url: str = "") -> Template:
    """What runs of the template, with these values for its parameters, and AWS at this URL.

    Raises:
        TemplateError: it has something that this runtime does not know how to run.
    """
    document = read(path)
    values = values_of(document.get("Parameters", {}), parameters)
    defaults = document.get("Globals", {}).get("Function", {})
    resources = document["Resources"]
    queues = frozenset(_of_type(resources, "AWS::SQS::Queue"))
    names = Names(values, document.get("Conditions", {}), aws_url, queues)
    for name, resource in resources.items():
        if resource["Type"] not in _RESOURCES_HERE | _RESOURCES_OF_AWS:
            raise TemplateError(f"{name}: resources of type {resource['Type']} are unknown here")
    functions = _of_type(resources, "AWS::Serverless::Function")
    return Template(
        functions=tuple(
            _function(path.parent, name, _merged(defaults, properties), names)
            for name, properties in functions.items()
        ),
        queues=tuple(
            _queue(name, resources[name].get("Properties", {}), names)
            for name in sorted(names.queues)
        ),
        cors=_cors(resources, names),
    )


def _cors(resources: Mapping[str, Any], names: Names) -> Cors | None:
    body = resources.get("Api", {}).get("Properties", {}).get("DefinitionBody", {})
    return cors.configured(resolved(body.get(cors.IN_TEMPLATE), names))


def _of_type(resources: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    return {
        name: resource.get("Properties", {})
        for name, resource in resources.items()
        if resource["Type"] == wanted
    }


def _merged(defaults: Any, own: Any) -> Any:
    """As SAM merges Globals: maps key by key, lists one behind the other, the rest replaced."""
    if isinstance(defaults, dict) and isinstance(own, dict):
        return defaults | {
            key: _merged(defaults[key], value) if key in defaults else value
            for key, value in own.items()
        }
    if isinstance(defaults, list) and isinstance(own, list):
        return defaults + own
    return own


def _function(root: Path, name: str, raw: Mapping[str, Any], names: Names) -> Function:
    unknown = raw.keys() - _FUNCTION_PROPERTIES
    if unknown:
        raise TemplateError(f"{name}: properties unknown here: {', '.join(sorted(unknown))}")
    here = _without(raw, _OF_AWS) | {"Events": _events_here(raw.get("Events", {}))}
    properties = resolved(here, names)
    variables = properties.get("Environment", {}).get("Variables", {})
    return Function(
        name=name,
        code=root / properties["CodeUri"],
        handler=properties["Handler"],
        timeout_seconds=properties["Timeout"],
        memory_mb=properties["MemorySize"],
        environment={variable: str(value) for variable, value in variables.items()},
        routes=tuple(_route(facts) for facts in _events(name, properties, "HttpApi")),
        every_seconds=tuple(
            _every_seconds(name, facts) for facts in _events(name, properties, "ScheduleV2")
        ),
        queues=tuple(_trigger(name, facts, names) for facts in _events(name, properties, "SQS")),
    )


def _queue(name: str, raw: Mapping[str, Any], names: Names) -> Queue:
    unknown = raw.keys() - _QUEUE_PROPERTIES
    if unknown:
        raise TemplateError(f"{name}: properties unknown here: {', '.join(sorted(unknown))}")
    return Queue(
        name,
        {
            key: json.dumps(value) if isinstance(value, dict) else str(value)
            for key, value in resolved(_without(raw, _QUEUE_PROPERTIES_OF_AWS), names).items()
        },
    )


def _events_here(events: Mapping[str, Any]) -> dict[str, Any]:
    """Without what matters only on AWS: here, a schedule's call is always taken."""
    return {
        name: dict(event)
        | {"Properties": _without(event["Properties"], _SCHEDULE_PROPERTIES_OF_AWS)}
        for name, event in events.items()
    }


def _without(properties: Mapping[str, Any], left_out: set[str]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in left_out}


def _events(function: str, properties: Mapping[str, Any], of_type: str) -> list[Mapping[str, Any]]:
    events = properties.get("Events", {}).values()
    for event in events:
        if event["Type"] not in _EVENT_TYPES:
            raise TemplateError(f"{function}: events of type {event['Type']} are unknown here")
    return [event["Properties"] for event in events if event["Type"] == of_type]


def _trigger(function: str, event: Mapping[str, Any], names: Names) -> QueueTrigger:
    unknown = event.keys() - _SQS_EVENT_PROPERTIES
    if unknown:
        raise TemplateError(f"{function}: unknown of a queue here: {', '.join(sorted(unknown))}")
    arn = event["Queue"]
    return QueueTrigger(
        queue_url=names.ref(arn.rpartition(":")[2]),
        queue_arn=arn,
        batch_size=event.get("BatchSize", 10),
        window_seconds=event.get("MaximumBatchingWindowInSeconds", 0),
        concurrency_max=int(event.get("ScalingConfig", {}).get("MaximumConcurrency", 1_000)),
        partial_failures="ReportBatchItemFailures" in event.get("FunctionResponseTypes", ()),
    )


def _route(event: Mapping[str, Any]) -> str:
    return f"{event['Method']} {event['Path']}" if "Path" in event else DEFAULT_ROUTE


def _every_seconds(function: str, event: Mapping[str, Any]) -> int:
    expression = event["ScheduleExpression"]
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if found is None:
        raise TemplateError(f"{function}: the schedule {expression} is unknown here")
    return int(found[1]) * {"minute": 60, "hour": 3_600, "day": 86_400}[found[2]]
