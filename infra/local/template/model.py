"""Reads template.yaml: its functions, their triggers, the queues and CORS.

Rejects unsupported resources and properties, so that the runtime never differs silently from AWS.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.http import cors
from infra.local.http.cors import Cors
from infra.local.template.intrinsics import Names, TemplateError, read, resolved, values_of

DEFAULT_ROUTE = "$default"


@dataclass(frozen=True, slots=True)
class Queue:
    """One AWS::SQS::Queue."""

    name: str
    attributes: Mapping[str, str]
    """In the form of CreateQueue."""


@dataclass(frozen=True, slots=True)
class QueueTrigger:
    """A queue that invokes a function."""

    queue_url: str
    queue_arn: str
    batch_size: int
    concurrency_max: int
    partial_failures: bool
    """Whether the function reports failed messages individually (ReportBatchItemFailures)."""
    window_seconds: int = 0
    """Maximum batching window."""


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
    """The rates of its schedules."""
    queues: tuple[QueueTrigger, ...] = ()
    """The queues that invoke it."""


@dataclass(frozen=True, slots=True)
class Template:
    """The parts of a template that run locally."""

    functions: tuple[Function, ...]
    queues: tuple[Queue, ...]
    cors: Cors | None = None
    """None: cross-origin requests are not allowed."""


_AWS_ONLY_FUNCTION_PROPERTIES = {
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
"""Properties without an effect here: permissions, networking, deployment and provisioning."""
_FUNCTION_PROPERTIES = _AWS_ONLY_FUNCTION_PROPERTIES | {
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
_AWS_ONLY_SCHEDULE_PROPERTIES = {"DeadLetterConfig", "OmitName", "RetryPolicy", "RoleArn"}
_AWS_ONLY_QUEUE_PROPERTIES = {"KmsMasterKeyId", "SqsManagedSseEnabled"}
_QUEUE_PROPERTIES = _AWS_ONLY_QUEUE_PROPERTIES | {
    "MessageRetentionPeriod",
    "RedrivePolicy",
    "VisibilityTimeout",
}

_LOCAL_RESOURCES = {"AWS::SQS::Queue", "AWS::Serverless::Function"}

# No effect here: layers are installed in .venv, and logs go to the terminal.
_AWS_ONLY_RESOURCES = {
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
    """The local parts of a template with these parameters, and with AWS services at this URL.

    Raises:
        TemplateError: the template has unsupported resources, properties or intrinsics.
    """
    document = read(path)
    values = values_of(document.get("Parameters", {}), parameters)
    defaults = document.get("Globals", {}).get("Function", {})
    resources = document["Resources"]
    queues = frozenset(_of_type(resources, "AWS::SQS::Queue"))
    names = Names(values, document.get("Conditions", {}), aws_url, queues)
    for name, resource in resources.items():
        if resource["Type"] not in _LOCAL_RESOURCES | _AWS_ONLY_RESOURCES:
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
    return cors.configured(resolved(body.get(cors.EXTENSION), names))


def _of_type(resources: Mapping[str, Any], resource_type: str) -> dict[str, Any]:
    return {
        name: resource.get("Properties", {})
        for name, resource in resources.items()
        if resource["Type"] == resource_type
    }


def _merged(defaults: Any, own: Any) -> Any:
    """Merge as SAM merges Globals: maps by key, lists concatenated, other values replaced."""
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
    local = _without(raw, _AWS_ONLY_FUNCTION_PROPERTIES) | {
        "Events": _local_events(raw.get("Events", {}))
    }
    properties = resolved(local, names)
    variables = properties.get("Environment", {}).get("Variables", {})
    return Function(
        name=name,
        code=root / properties["CodeUri"],
        handler=properties["Handler"],
        timeout_seconds=properties["Timeout"],
        memory_mb=properties["MemorySize"],
        environment={variable: str(value) for variable, value in variables.items()},
        routes=tuple(_route(event) for event in _events(name, properties, "HttpApi")),
        every_seconds=tuple(
            _every_seconds(name, event) for event in _events(name, properties, "ScheduleV2")
        ),
        queues=tuple(_trigger(name, event, names) for event in _events(name, properties, "SQS")),
    )


def _queue(name: str, raw: Mapping[str, Any], names: Names) -> Queue:
    unknown = raw.keys() - _QUEUE_PROPERTIES
    if unknown:
        raise TemplateError(f"{name}: properties unknown here: {', '.join(sorted(unknown))}")
    return Queue(
        name,
        {
            key: json.dumps(value) if isinstance(value, dict) else str(value)
            for key, value in resolved(_without(raw, _AWS_ONLY_QUEUE_PROPERTIES), names).items()
        },
    )


def _local_events(events: Mapping[str, Any]) -> dict[str, Any]:
    """The events without AWS-only properties of schedules."""
    return {
        name: dict(event)
        | {"Properties": _without(event["Properties"], _AWS_ONLY_SCHEDULE_PROPERTIES)}
        for name, event in events.items()
    }


def _without(properties: Mapping[str, Any], excluded: set[str]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in excluded}


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
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if match is None:
        raise TemplateError(f"{function}: the schedule {expression} is unknown here")
    return int(match[1]) * {"minute": 60, "hour": 3_600, "day": 86_400}[match[2]]
