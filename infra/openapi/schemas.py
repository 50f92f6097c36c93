"""Component schemas, from the pydantic models of bodies and answers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

Schema = dict[str, Any]

_COMPONENT = "#/components/schemas/{model}"


class _Generator(GenerateJsonSchema):
    """JSON Schema as client generators read it best."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """A title names a component here, so fields have none."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """No default in a request: openapi-typescript makes such a field mandatory."""
        described = super().default_schema(schema)
        if self.mode == "validation" or described.get("default") in (None, ""):
            described.pop("default", None)
        return described

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """A request may say null for what it leaves out; an answer and a query leave it out."""
        if self.mode == "validation":
            return super().nullable_schema(schema)
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """An answer may get new members in a later version, so it forbids none."""
        described = super().model_schema(schema)
        if self.mode == "serialization":
            described.pop("additionalProperties", None)
        return described


def reference(model: type[BaseModel] | str) -> Schema:
    """The schema of a component."""
    name = model if isinstance(model, str) else model.__name__
    return {"$ref": _COMPONENT.format(model=name)}


def components(
    bodies: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]
) -> dict[str, Schema]:
    """The models, and each schema within them that has a title, as components by name."""
    _, made = models_json_schema(
        [(model, "validation") for model in _by_name(bodies)]
        + [(model, "serialization") for model in _by_name(answers)],
        ref_template=_COMPONENT,
        schema_generator=_Generator,
    )
    found: dict[str, Schema] = {}
    for name, schema in made["$defs"].items():
        schema.pop("title", None)
        _add(found, name, _hoisted(schema, found))
    return dict(sorted(found.items()))


def fields_of(model: type[BaseModel]) -> Mapping[str, Schema]:
    """The fields of a model whose values come as text: of a query, or of a path."""
    generator = _Generator(by_alias=True, ref_template=_COMPONENT)
    fields: Mapping[str, Schema] = generator.generate(
        model.__pydantic_core_schema__, mode="serialization"
    )["properties"]
    return fields


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in a part of the document."""
    match value:
        case {"$ref": str(target)}:
            yield target
        case dict():
            for part in value.values():
                yield from references(part)
        case list():
            for part in value:
                yield from references(part)


def _by_name(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(set(models), key=lambda model: model.__name__)


def _hoisted(value: Any, found: dict[str, Schema]) -> Any:
    """The same, with references instead of the schemas that have a title."""
    if isinstance(value, list):
        return [_hoisted(part, found) for part in value]
    if not isinstance(value, Mapping):
        return value
    schema = {key: _hoisted(part, found) for key, part in value.items()}
    if not isinstance(schema.get("title"), str):
        return schema
    name = schema.pop("title")
    described = (
        {"description": schema.pop("description")}
        if "enum" in schema and ("description" in schema)
        else {}
    )
    _add(found, name, schema)
    return reference(name) | described


def _add(found: dict[str, Schema], name: str, schema: Schema) -> None:
    assert found.setdefault(name, schema) == schema, f"two schemas are called {name}"
