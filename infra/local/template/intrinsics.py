"""What stands in a template of CloudFormation for something else: `!Ref x`, parameters, conditions.

Decides what can be decided on this machine, and refuses the rest.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = "123456789012"
REGION = "eu-central-1"
_OF_AWS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "openreserve",
}
"""Parameters that AWS itself gives a value."""


class TemplateError(Exception):
    """The template was not run: something in it is unknown here, missing or misspelt."""


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """CloudFormation's short form of a function: `!Ref x`."""

    tag: str
    argument: Any


def read(path: Path) -> Any:
    """The document as it stands; what it refers to is an `Intrinsic`."""
    return yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader, below


@dataclass(frozen=True, slots=True)
class Names:
    """What the names that a template refers to stand for."""

    parameters: Mapping[str, str | None]
    conditions: Mapping[str, Any]
    aws_url: str
    queues: frozenset[str]

    def ref(self, name: str) -> str:
        """A parameter's value, a queue's URL; any other resource goes by its logical id here."""
        if name in self.queues:
            return f"{self.aws_url}/{ACCOUNT}/{name}"
        value = _OF_AWS.get(name) or self.parameters.get(name, name)
        if value is None:
            raise TemplateError(f"{name} is in Parameter Store, which is not read here")
        return value

    def holds(self, condition: Any) -> bool:
        """Whether a condition holds, which is a name or an intrinsic."""
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
        """A queue's ARN; no other attribute of anything is known here."""
        name, _, attribute = path.partition(".")
        if name in self.queues and attribute == "Arn":
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        raise TemplateError(f"!GetAtt {path} is unknown here")


def values_of(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str | None]:
    """The values of all parameters; None: the value is in Parameter Store."""
    unknown = given.keys() - declared.keys()
    if unknown:
        raise TemplateError(f"no parameters of these names: {', '.join(sorted(unknown))}")
    values = {name: given.get(name, facts.get("Default")) for name, facts in declared.items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise TemplateError(f"parameters without a value: {', '.join(missing)}")
    return {
        name: None if name not in given and _is_in_store(declared[name]) else str(value)
        for name, value in values.items()
    }


def _is_in_store(declared: Mapping[str, Any]) -> bool:
    return str(declared["Type"]).startswith("AWS::SSM::Parameter::Value<")


def resolved(value: Any, names: Names) -> Any:
    """The value with all in it that stands for something else replaced by that.

    Raises:
        TemplateError: something is unknown here.
    """
    match value:
        case dict():
            return {key: resolved(part, names) for key, part in value.items()}
        case list():
            return [resolved(part, names) for part in value]
        case Intrinsic():
            return _stands_for(value, names)
    return value


def _stands_for(value: Intrinsic, names: Names) -> Any:
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
            return re.sub(r"\$\{([^!}]+)\}", lambda found: _named(found[1], names), text)
        case Intrinsic("If", [str(condition), then, otherwise]):
            return resolved(then if names.holds(condition) else otherwise, names)
    raise TemplateError(f"!{value.tag} {value.argument} is unknown here")


def _named(path: str, names: Names) -> str:
    """What `${Name}` or `${Name.Attribute}` stands for in a text."""
    return names.attribute(path) if "." in path else names.ref(path)


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref x` becomes an `Intrinsic`."""


def _construct(loader: Loader, tag: str, node: yaml.Node) -> Intrinsic:
    constructors: dict[type[yaml.Node], Callable[[Any], Any]] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }
    return Intrinsic(tag, constructors[type(node)](node))


Loader.add_multi_constructor("!", _construct)
