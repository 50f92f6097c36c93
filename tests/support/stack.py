"""template.yaml, as it is written and as SAM makes CloudFormation of it."""

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from infra.local.template.intrinsics import REGION

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
GLOBALS: dict[str, Any] = TEMPLATE["Globals"]["Function"]


def of_type(wanted: str) -> dict[str, Any]:
    """The properties of each resource of a type."""
    return {
        name: resource.get("Properties", {})
        for name, resource in RESOURCES.items()
        if resource["Type"] == wanted
    }


FUNCTIONS = of_type("AWS::Serverless::Function")


def variables(function: str) -> dict[str, Any]:
    """The environment of a function."""
    own = FUNCTIONS[function].get("Environment", {}).get("Variables", {})
    return {**GLOBALS["Environment"]["Variables"], **own}


def policies(role: str) -> Iterator[dict[str, Any]]:
    """The policy documents of a role: its own, and those that it shares."""
    properties = RESOURCES[role]["Properties"]
    for attached in properties.get("ManagedPolicyArns", []):
        _, name, _ = attached.get("Fn::If", [None, attached, None])
        yield RESOURCES[name["Ref"]]["Properties"]["PolicyDocument"]
    for inline in properties.get("Policies", []):
        yield inline["PolicyDocument"]


def statements(role: str) -> list[dict[str, Any]]:
    """What a role may do, and may not."""
    return [statement for policy in policies(role) for statement in policy["Statement"]]


def listed(value: Any) -> list[Any]:
    """As a list, what IAM takes with and without one."""
    return value if isinstance(value, list) else [value]


def role_of(function: str) -> str:
    """The role of a function, which is its own."""
    return str(FUNCTIONS[function]["Role"]["Fn::GetAtt"][0])


@cache
def cloudformation() -> dict[str, Any]:
    """The resources that CloudFormation makes, with all parameters as they are by default."""
    template = deepcopy(TEMPLATE)
    for resource in template["Resources"].values():
        for place in {"CodeUri", "ContentUri"} & resource["Properties"].keys():
            resource["Properties"][place] = "s3://bucket/key"  # as `sam deploy` does
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    made: dict[str, Any] = translator.translate(template, {})
    return dict(made["Resources"])


def made_of_type(wanted: str) -> dict[str, Any]:
    """Each resource of a type that CloudFormation makes."""
    return {name: made for name, made in cloudformation().items() if made["Type"] == wanted}


def named_in(value: Any) -> Iterator[str]:
    """All names that a part of a template refers to."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::Sub": str(text)}:
            yield from _substituted(text)
        case {"Fn::Sub": [str(text), dict(given)]}:
            yield from set(_substituted(text)) - given.keys()
            yield from named_in(given)
        case dict():
            for part in value.values():
                yield from named_in(part)
        case list():
            for part in value:
                yield from named_in(part)


def _substituted(text: str) -> Iterator[str]:
    for rest in text.split("${")[1:]:
        yield rest.partition("}")[0].partition(".")[0]
