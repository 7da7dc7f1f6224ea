"""A plugin's options in words: name, type, default, bounds, meaning, from the JSON schema of its pydantic model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ltunnel.plugin import Options

_Schema = Mapping[str, Any]

_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as ``ltunnel plugins info`` shows it. Fields of nested models have dotted names."""

    name: str
    type: str
    default: Any
    """A JSON value; None also when there is no default."""
    required: bool
    bounds: str
    meaning: str


def describe(model: type[Options]) -> tuple[Option, ...]:
    """Describe all options of a model. Raises what pydantic raises for a model that JSON schema cannot express."""
    schema = model.model_json_schema()
    return tuple(_fields(schema, schema.get("$defs", {}), ""))


def _fields(schema: _Schema, definitions: _Schema, prefix: str) -> Iterator[Option]:
    required = schema.get("required", ())
    for name, written in schema.get("properties", {}).items():
        field = _resolve(written, definitions)
        if field.get("properties"):
            yield from _fields(field, definitions, f"{prefix}{name}.")
            continue
        yield Option(
            name=prefix + name,
            type=_type(field, definitions),
            default=field.get("default"),
            required=name in required,
            bounds=", ".join(_bounds(field, definitions)),
            meaning=" ".join(str(field.get("description", "")).split()),
        )


def _resolve(schema: _Schema, definitions: _Schema) -> _Schema:
    """Follow a reference; what stands beside it (default, description) goes first."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return {**definitions[str(reference).rsplit("/", 1)[-1]], **schema, "$ref": None}


def _type(schema: _Schema, definitions: _Schema) -> str:
    schema = _resolve(schema, definitions)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice, definitions) for choice in schema["anyOf"]))
    match schema.get("type"):
        case "array" if isinstance(schema.get("items"), Mapping):
            return f"list of {_type(schema['items'], definitions)}"
        case str(name):
            return "none" if name == "null" else name
        case _:
            return "any"


def _bounds(schema: _Schema, definitions: _Schema) -> Iterator[str]:
    schema = _resolve(schema, definitions)
    if "enum" in schema:
        yield "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        yield f"only {schema['const']}"
    for keyword, wording in _BOUNDS.items():
        if keyword in schema:
            yield wording.format(schema[keyword])
    for choice in schema.get("anyOf", ()):
        yield from _bounds(choice, definitions)
    if isinstance(schema.get("items"), Mapping):
        yield from (f"each {bound}" for bound in _bounds(schema["items"], definitions))
