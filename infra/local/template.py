"""Reads template.yaml: which functions there are, and what each is invoked by.

Refuses what it does not know, instead of running something else than AWS would.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEFAULT_ROUTE = "$default"


class TemplateError(Exception):
    """The template was not run: something in it is unknown here, missing or misspelt."""


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


_FUNCTION_PROPERTIES = {
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

_EVENT_TYPES = {"HttpApi", "ScheduleV2"}

# These matter only on AWS: the layers are installed in .venv, and logs come to the terminal.
_RESOURCES_OF_AWS = {
    "AWS::CloudWatch::Alarm",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::LayerVersion",
}


def load(path: Path, parameters: Mapping[str, str]) -> list[Function]:
    """The functions of the template, with these values for its parameters.

    Raises:
        TemplateError: it has something that this runtime does not know how to run.
    """
    document = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader, below
    values = _values(document.get("Parameters", {}), parameters)
    defaults = document.get("Globals", {}).get("Function", {})
    functions = []
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = _merged(defaults, resource["Properties"])
            functions.append(_function(path.parent, name, _resolved(properties, values)))
        elif resource["Type"] not in _RESOURCES_OF_AWS:
            raise TemplateError(f"{name}: resources of type {resource['Type']} are unknown here")
    return functions


@dataclass(frozen=True, slots=True)
class _Intrinsic:
    tag: str
    argument: Any


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref x` becomes an `_Intrinsic`."""


def _construct(loader: _Loader, tag: str, node: yaml.Node) -> _Intrinsic:
    constructors: dict[type[yaml.Node], Callable[[Any], Any]] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }
    return _Intrinsic(tag, constructors[type(node)](node))


_Loader.add_multi_constructor("!", _construct)


def _values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    unknown = given.keys() - declared.keys()
    if unknown:
        raise TemplateError(f"no parameters of these names: {', '.join(sorted(unknown))}")
    values = {name: given.get(name, facts.get("Default")) for name, facts in declared.items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise TemplateError(f"parameters without a value: {', '.join(missing)}")
    return {name: str(value) for name, value in values.items()}


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


def _resolved(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {key: _resolved(part, values) for key, part in value.items()}
        case list():
            return [_resolved(part, values) for part in value]
        case _Intrinsic("Ref", str(name)):
            return values.get(name, name)  # a resource goes by its logical id here
        case _Intrinsic(tag, argument):
            raise TemplateError(f"!{tag} {argument} is unknown here")
    return value


def _function(root: Path, name: str, properties: Mapping[str, Any]) -> Function:
    unknown = properties.keys() - _FUNCTION_PROPERTIES
    if unknown:
        raise TemplateError(f"{name}: properties unknown here: {', '.join(sorted(unknown))}")
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
    )


def _events(function: str, properties: Mapping[str, Any], of_type: str) -> list[Mapping[str, Any]]:
    events = properties.get("Events", {}).values()
    for event in events:
        if event["Type"] not in _EVENT_TYPES:
            raise TemplateError(f"{function}: events of type {event['Type']} are unknown here")
    return [event["Properties"] for event in events if event["Type"] == of_type]


def _route(event: Mapping[str, Any]) -> str:
    return f"{event['Method']} {event['Path']}" if "Path" in event else DEFAULT_ROUTE


def _every_seconds(function: str, event: Mapping[str, Any]) -> int:
    expression = event["ScheduleExpression"]
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if found is None:
        raise TemplateError(f"{function}: the schedule {expression} is unknown here")
    return int(found[1]) * {"minute": 60, "hour": 3_600, "day": 86_400}[found[2]]
