"""template.yaml as CloudFormation carries it out: after SAM's transform, its conditions decided."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
_NOTHING = object()
"""What AWS::NoValue leaves of a property."""

Change = Callable[[dict[str, Any]], object]


def transformed(
    parameters: Mapping[str, str] | None = None, change: Change = lambda _: None
) -> dict[str, Any]:
    """With these parameters, and with a change of the template before; offline."""
    document = yaml_parse(TEMPLATE.read_text())
    change(document)
    values = _values(document, parameters or {})
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        for name in {"CodeUri", "ContentUri"} & properties.keys():
            if not str(properties[name]).startswith("s3://"):
                properties[name] = "s3://bucket/key"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="eu-central-1"))
    result: dict[str, Any] = translator.translate(document, values)
    return _Decided(result, values).document()


def decided(path: Path, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A template without SAM's resources, with these parameters."""
    document = yaml_parse(path.read_text())
    return _Decided(document, _values(document, parameters or {})).document()


def _values(document: dict[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    return {
        name: given.get(name, str(facts.get("Default", "a-value")))
        for name, facts in document["Parameters"].items()
    }


def rendered(value: Any, known: Mapping[str, str]) -> str:
    """The value in a stage; what the stack makes has a name of its own in each."""

    def named(name: str) -> str:
        return known.get(name, f"<{name} of {known['AWS::StackName']}>")

    match value:
        case {"Ref": name} | {"Fn::GetAtt": [name, *_]}:
            return named(name)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^}.]+)[^}]*\}", lambda found: named(found[1]), text)
        case {"Fn::Sub": [text, given]}:
            parts = {name: rendered(part, known) for name, part in given.items()}
            return rendered({"Fn::Sub": text}, {**known, **parts})
        case {"Fn::Select": [_, part]} | {"Fn::Split": [_, part]}:
            return rendered(part, known)
        case {"Fn::If": [_, one, other]}:
            return f"{rendered(one, known)} or {rendered(other, known)}"
    return str(value)


class _Decided:
    def __init__(self, document: dict[str, Any], values: dict[str, str]) -> None:
        self.transformed = document
        self.values = values

    def document(self) -> dict[str, Any]:
        """Without what stands under a condition that does not hold."""
        return {
            section: self.of(
                {name: facts for name, facts in named.items() if self._is_there(facts)}
                if section in ("Resources", "Outputs")
                else named
            )
            for section, named in self.transformed.items()
            if section != "Conditions"
        }

    def of(self, value: Any) -> Any:
        match value:
            case {"Fn::If": [condition, one, other]}:
                return self.of(one if self._holds({"Condition": condition}) else other)
            case {"Ref": name}:
                return _NOTHING if name == "AWS::NoValue" else self.values.get(name, value)
            case {"Fn::Split": [separator, {"Ref": name}]} if name in self.values:
                return self.values[name].split(separator)
        return self._of_parts(value)

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, dict):
            parts = {key: self.of(part) for key, part in value.items()}
            return {key: part for key, part in parts.items() if part is not _NOTHING}
        if isinstance(value, list):
            return [part for part in map(self.of, value) if part is not _NOTHING]
        return value

    def _is_there(self, facts: dict[str, Any]) -> bool:
        return "Condition" not in facts or self._holds({"Condition": facts["Condition"]})

    def _holds(self, condition: Any) -> bool:
        match condition:
            case {"Condition": name}:
                return self._holds(self.transformed["Conditions"][name])
            case {"Fn::Equals": [one, other]}:
                return str(self.of(one)) == str(self.of(other))
            case {"Fn::Not": [denied]}:
                return not self._holds(denied)
            case {"Fn::And": parts}:
                return all(map(self._holds, parts))
            case {"Fn::Or": parts}:
                return any(map(self._holds, parts))
        raise AssertionError(f"{condition} is unknown here")
