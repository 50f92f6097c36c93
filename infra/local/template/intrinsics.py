"""Resolves parameters, conditions and intrinsic functions (`!Ref x`) of a CloudFormation template.

Rejects what cannot be resolved on this machine.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = "123456789012"
REGION = "eu-central-1"
_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "openreserve",
}
"""Parameters that CloudFormation predefines."""


class TemplateError(Exception):
    """The template or its parameters are invalid, incomplete or not supported locally."""


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """An intrinsic function in its short form: `!Ref x`."""

    tag: str
    argument: Any


def read(path: Path) -> Any:
    """The unresolved document. References are `Intrinsic` values."""
    return yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - Loader is a SafeLoader


@dataclass(frozen=True, slots=True)
class Names:
    """The values of the names that a template refers to."""

    parameters: Mapping[str, str | None]
    conditions: Mapping[str, Any]
    aws_url: str
    queues: frozenset[str]

    def ref(self, name: str) -> str:
        """The value of `!Ref`: a parameter, a queue URL, or the logical id of another resource."""
        if name in self.queues:
            return f"{self.aws_url}/{ACCOUNT}/{name}"
        value = _PSEUDO_PARAMETERS.get(name) or self.parameters.get(name, name)
        if value is None:
            raise TemplateError(f"{name} is in Parameter Store, which is not available locally")
        return value

    def holds(self, condition: Any) -> bool:
        """Evaluate a condition, overrides by its name or as an intrinsic."""
        match condition:
            case str(name) if name in self.conditions:
                return self.holds(self.conditions[name])
            case Intrinsic("Condition", str(name)):
                return self.holds(name)
            case Intrinsic("Equals", [one, other]):
                return str(resolved(one, self)) == str(resolved(other, self))
            case Intrinsic("Not", [negated]):
                return not self.holds(negated)
            case Intrinsic("And", list(parts)):
                return all(map(self.holds, parts))
        raise TemplateError(f"the condition {condition} is unknown here")

    def attribute(self, path: str) -> str:
        """The value of `!GetAtt`: the ARN of a queue. Other attributes are not supported."""
        name, _, attribute = path.partition(".")
        if name in self.queues and attribute == "Arn":
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        raise TemplateError(f"!GetAtt {path} is unknown here")


def values_of(
    declarations: Mapping[str, Any], overrides: Mapping[str, str]
) -> dict[str, str | None]:
    """The values of all parameters. None: the value is in Parameter Store."""
    unknown = overrides.keys() - declarations.keys()
    if unknown:
        raise TemplateError(f"unknown parameters: {', '.join(sorted(unknown))}")
    values = {
        name: overrides.get(name, declaration.get("Default"))
        for name, declaration in declarations.items()
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise TemplateError(f"parameters without a value: {', '.join(missing)}")
    return {
        name: None if name not in overrides and _is_in_store(declarations[name]) else str(value)
        for name, value in values.items()
    }


def _is_in_store(declarations: Mapping[str, Any]) -> bool:
    return str(declarations["Type"]).startswith("AWS::SSM::Parameter::Value<")


def resolved(value: Any, names: Names) -> Any:
    """The value with all references and intrinsics replaced.

    Raises:
        TemplateError: an intrinsic is not supported.
    """
    match value:
        case dict():
            return {key: resolved(part, names) for key, part in value.items()}
        case list():
            return [resolved(part, names) for part in value]
        case Intrinsic():
            return _evaluate(value, names)
    return value


def _evaluate(value: Intrinsic, names: Names) -> Any:
    match value:
        case Intrinsic("Ref", "AWS::NoValue"):
            return None
        case Intrinsic("Ref", str(name)):
            return names.ref(name)
        case Intrinsic("Split", [str(separator), text]):
            return str(resolved(text, names)).split(separator)
        case Intrinsic("GetAtt", str(path)):
            return names.attribute(path)
        case Intrinsic("Sub", str(text)):
            return re.sub(r"\$\{([^!}]+)\}", lambda match: _substitute(match[1], names), text)
        case Intrinsic("If", [str(condition), then, otherwise]):
            return resolved(then if names.holds(condition) else otherwise, names)
    raise TemplateError(f"!{value.tag} {value.argument} is unknown here")


def _substitute(path: str, names: Names) -> str:
    """The value of `${Name}` or `${Name.Attribute}` in `!Sub`."""
    return names.attribute(path) if "." in path else names.ref(path)


class Loader(yaml.SafeLoader):
    """A YAML loader that turns CloudFormation's short forms such as `!Ref x` into `Intrinsic`."""


def _construct(loader: Loader, tag: str, node: yaml.Node) -> Intrinsic:
    constructors: dict[type[yaml.Node], Callable[[Any], Any]] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }
    return Intrinsic(tag, constructors[type(node)](node))


Loader.add_multi_constructor("!", _construct)
