"""The published description of the HTTP API: what is committed is what the gateway says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from app.api.openapi import examples
from app.cli import main

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def nodes(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of a JSON tree with the way to it; not those inside of examples."""
    if isinstance(tree, dict):
        yield path, tree
        for key, below in tree.items():
            if key not in {"example", "examples"}:
                yield from nodes(below, f"{path}/{key}")
    elif isinstance(tree, list):
        for number, below in enumerate(tree):
            yield from nodes(below, f"{path}/{number}")


def shown(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield where each example stands, its schema, and the example."""
    for path, node in nodes(document):
        examples = node.get("examples", [])
        if "schema" in node:
            yield from ((f"{path}/{name}", node["schema"], each["value"]) for name, each in dict(examples).items())
            if "example" in node:
                yield path, node["schema"], node["example"]
        elif isinstance(examples, list):
            yield from ((path, node, each) for each in examples)


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(COMMITTED.read_text())


def test_the_committed_description_is_what_the_gateway_says() -> None:
    said = CliRunner().invoke(main, ["openapi"]).output
    assert COMMITTED.read_text() == said, "docs/openapi.json is out of date: `make openapi` renews it"


def test_every_example_fits_its_own_schema(document: dict[str, Any]) -> None:
    found = list(shown(document))
    wrong = {
        f"{path}: {problem.message}"
        for path, schema, example in found
        for problem in Draft202012Validator({**schema, "components": document["components"]}).iter_errors(example)
    }
    assert wrong == set()
    assert {True, False} == {path.startswith("/components") for path, _, _ in found}


def test_every_schema_of_the_description_is_a_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert document["openapi"].startswith("3.1")


def test_every_reference_of_the_description_leads_somewhere(document: dict[str, Any]) -> None:
    pointers = {node["$ref"] for _, node in nodes(document) if isinstance(node.get("$ref"), str)}
    parts = document["components"]
    known = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in parts[kind]}
    assert pointers
    assert pointers <= known


def test_every_json_body_and_every_json_answer_has_an_example(document: dict[str, Any]) -> None:
    lacking = []
    for where, content in examples.contents(document):
        if not {"example", "examples"} & content.keys():
            with pytest.raises(examples.NoExample) as told:
                examples.compose(content["schema"], document, where)
            lacking.append(str(told.value))
    assert lacking == [], "what /docs shows is put together from the examples of fields: app/api/openapi/examples.py"


def test_an_example_is_made_of_those_of_its_members() -> None:
    name = {"type": "string", "examples": ["a.laz"]}
    node = {
        "type": "object",
        "required": ["files", "when"],
        "properties": {
            "files": {"type": "array", "items": {"$ref": "#/components/schemas/File"}},
            "when": {"type": "string", "format": "date-time"},
            "left_out": {"type": "string"},
        },
    }
    file = {"type": "object", "required": ["name"], "properties": {"name": name, "size": {"anyOf": [{"type": "null"}]}}}
    document = {"components": {"schemas": {"File": file}}}
    made = {"files": [{"name": "a.laz", "size": None}], "when": "2026-05-01T12:00:00Z"}
    assert examples.compose(node, document) == made
    del name["examples"]
    with pytest.raises(examples.NoExample, match=r"files\[\] File\.name"):
        examples.compose(node, document)
