"""From the JSON Schema that pydantic and OpenAPI 3.1 speak to the one of OpenAPI 3.0, which the standard uses."""

from collections.abc import Mapping
from typing import Any

_SAME = {
    "title", "description", "type", "format", "pattern", "default", "enum", "multipleOf", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "required",
    "readOnly", "writeOnly", "deprecated", "contentMediaType", "contentEncoding", "$ref",
}  # fmt: skip
_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_DEEPEST = 20


def downgraded(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return a schema as OpenAPI 3.0 has it; what 3.0 cannot say is left out, so that it asks for less, never more.

    Args:
        schema: The schema.
        definitions: What ``#/$defs/…`` stands for, to be written in its place; None leaves references as they are.
        depth: How deep within another one this is.

    >>> downgraded({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}], "default": None})
    {'type': 'number', 'minimum': 0, 'exclusiveMinimum': True, 'nullable': True}
    """
    if definitions is not None and (name := str(schema.get("$ref", "")).rpartition("/")[2]):
        if depth > _DEEPEST:
            return {}  # it refers to itself
        schema = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}}
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    found = {key: value for key, value in schema.items() if key in _SAME}
    for key, bound in _BOUNDS.items():
        if key in schema:
            found |= {bound: schema[key], key: True}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if isinstance(examples := schema.get("examples"), list) and examples:
        found["example"] = examples[0]
    if isinstance(kinds := found.get("type"), list):
        found |= _one_of([{**found, "type": kind} for kind in kinds], definitions, depth)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            found |= _several(key, schema[key], definitions, depth)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(below := schema.get(key), Mapping):
            found[key] = downgraded(below, definitions, depth + 1)
        elif isinstance(below, bool) and key == "additionalProperties":
            found[key] = below
    if found.get("type") == "array":
        found.setdefault("items", {})
    if "properties" in schema:
        properties = schema["properties"].items()
        found["properties"] = {name: downgraded(below, definitions, depth + 1) for name, below in properties}
    if "default" in found and found["default"] is None:
        del found["default"]
    return found


def _several(key: str, schemas: Any, definitions: Mapping[str, Any] | None, depth: int) -> dict[str, Any]:
    left = [each for each in schemas if each.get("type") != "null"]
    if len(left) == len(schemas) or key == "allOf":
        return {key: [downgraded(each, definitions, depth + 1) for each in schemas]}
    return _one_of(left, definitions, depth) | {"nullable": True}


def _one_of(schemas: list[Any], definitions: Mapping[str, Any] | None, depth: int) -> dict[str, Any]:
    below = [downgraded(each, definitions, depth + 1) for each in schemas]
    if len(below) != 1:
        return {"anyOf": below}
    return {"allOf": below} if "$ref" in below[0] else dict(below[0])
