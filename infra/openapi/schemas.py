"""Component schemas from the pydantic models of requests and responses."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

Schema = dict[str, Any]

_COMPONENT = "#/components/schemas/{model}"


class _Generator(GenerateJsonSchema):
    """JSON Schema in the form that client generators handle best."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Fields have no title: titles name components."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Omit defaults in requests: openapi-typescript makes such fields mandatory."""
        described = super().default_schema(schema)
        if self.mode == "validation" or described.get("default") in (None, ""):
            described.pop("default", None)
        return described

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Only request bodies accept null for an omitted member. Responses and queries omit it."""
        if self.mode == "validation":
            return super().nullable_schema(schema)
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Responses allow additional members: later versions may add some."""
        described = super().model_schema(schema)
        if self.mode == "serialization":
            described.pop("additionalProperties", None)
        return described


def reference(model: type[BaseModel] | str) -> Schema:
    """A reference to a component."""
    name = model if isinstance(model, str) else model.__name__
    return {"$ref": _COMPONENT.format(model=name)}


def components(
    bodies: Iterable[type[BaseModel]], responses: Iterable[type[BaseModel]]
) -> dict[str, Schema]:
    """The models and their titled subschemas, as components by name."""
    _, generated = models_json_schema(
        [(model, "validation") for model in _by_name(bodies)]
        + [(model, "serialization") for model in _by_name(responses)],
        ref_template=_COMPONENT,
        schema_generator=_Generator,
    )
    schemas: dict[str, Schema] = {}
    for name, schema in generated["$defs"].items():
        schema.pop("title", None)
        _add(schemas, name, _hoisted(schema, schemas))
    return dict(sorted(schemas.items()))


def fields_of(model: type[BaseModel]) -> Mapping[str, Schema]:
    """The fields of a model for parameters of a query or a path."""
    generator = _Generator(by_alias=True, ref_template=_COMPONENT)
    fields: Mapping[str, Schema] = generator.generate(
        model.__pydantic_core_schema__, mode="serialization"
    )["properties"]
    return fields


def references(value: Any) -> Iterator[str]:
    """All `$ref` values in a part of the document."""
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


def _hoisted(value: Any, schemas: dict[str, Schema]) -> Any:
    """The value, with titled schemas replaced by references."""
    if isinstance(value, list):
        return [_hoisted(part, schemas) for part in value]
    if not isinstance(value, Mapping):
        return value
    schema = {key: _hoisted(part, schemas) for key, part in value.items()}
    if not isinstance(schema.get("title"), str):
        return schema
    name = schema.pop("title")
    described = (
        {"description": schema.pop("description")}
        if "enum" in schema and ("description" in schema)
        else {}
    )
    _add(schemas, name, schema)
    return reference(name) | described


def _add(schemas: dict[str, Schema], name: str, schema: Schema) -> None:
    assert schemas.setdefault(name, schema) == schema, f"two schemas have the name {name}"
