"""An example of each JSON body and each JSON answer, put together from those of its members.

A member says its own by ``Field(examples=[…])``; what is a time, an id, a choice, has a default or may be left out need
not. A body whose members should hang together stands in ``wholes``.
"""

from collections.abc import Iterator
from typing import Any

from app.api.openapi.wholes import WHOLES

_JSON = "application/json"
_BY_FORMAT = {
    "date-time": "2026-05-01T12:00:00Z",
    "uuid": "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11",
}
_BY_TYPE: dict[str, Any] = {"boolean": False, "null": None}
_DEEPEST = 8


class NoExample(LookupError):
    """A member says no example, and none can be made up that means anything."""


def describe(schema: dict[str, Any]) -> None:
    """Add an example to each JSON body and answer of an OpenAPI document that has none; what cannot be said is left."""
    for where, content in contents(schema):
        if not {"example", "examples"} & content.keys():
            try:
                content["example"] = compose(content.get("schema", {}), schema, where)
            except NoExample:
                continue


def contents(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every place of an OpenAPI document where an example of JSON is wanted, by its method and path."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            bodies = [operation.get("requestBody", {})]
            bodies += [told for status, told in operation["responses"].items() if status.startswith("2")]
            yield from ((f"{method.upper()} {path}", body["content"][_JSON]) for body in bodies if _has_json(body))


def _has_json(body: dict[str, Any]) -> bool:
    return _JSON in body.get("content", {})


def compose(node: dict[str, Any], document: dict[str, Any], at: str = "", depth: int = 0) -> Any:
    """Return an example of a schema.

    Args:
        node: The schema.
        document: Where its references lead.
        at: The way to it, for the error.
        depth: How many references lead to it.

    Raises:
        NoExample: If a member says none.
    """
    if depth > _DEEPEST:
        raise NoExample(f"{at}: this goes on for ever")
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in WHOLES:
            return WHOLES[name]
        return compose(document["components"]["schemas"][name], document, f"{at} {name}", depth + 1)
    for said in ("example", "const", "default"):
        if said in node:
            return node[said]
    for choices in ("examples", "enum"):
        if node.get(choices):
            return node[choices][0]
    for kinds in ("anyOf", "oneOf", "allOf"):
        if node.get(kinds):
            return compose(node[kinds][0], document, at, depth)
    return _of_type(node, document, at, depth)


def _of_type(node: dict[str, Any], document: dict[str, Any], at: str, depth: int) -> Any:
    kind = node.get("type")
    if kind == "object":
        return _of_object(node, document, at, depth)
    if kind == "array":
        items = node.get("items", {})
        return [compose(items, document, f"{at}[]", depth)]
    if node.get("format") in _BY_FORMAT:
        return _BY_FORMAT[node["format"]]
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    raise NoExample(f"{at}: its field needs examples=[…]")


def _of_object(node: dict[str, Any], document: dict[str, Any], at: str, depth: int) -> dict[str, Any]:
    found = {}
    for name, member in node.get("properties", {}).items():
        try:
            found[name] = compose(member, document, f"{at}.{name}", depth)
        except NoExample:
            if name in node.get("required", []):
                raise
    return found
