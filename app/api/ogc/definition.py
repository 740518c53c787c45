"""The part of the OpenAPI document that is below /ogc, in OpenAPI 3.0 and with the standard's names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.api.ogc.exceptions import concerns
from app.api.ogc.schema30 import downgraded
from app.services.ogc.links import PREFIX

_NAMES = {"task_id": "jobID", "process_id": "processID", "output_id": "outputID"}
_OPERATIONS = {
    ("/", "get"): "getLandingPage",
    ("/conformance", "get"): "getConformance",
    ("/api", "get"): "getAPI",
    ("/processes", "get"): "getProcesses",
    ("/processes/{processID}", "get"): "getProcessDescription",
    ("/processes/{processID}/execution", "post"): "execute",
    ("/jobs", "get"): "getJobs",
    ("/jobs/{jobID}", "get"): "getStatus",
    ("/jobs/{jobID}", "delete"): "dismiss",
    ("/jobs/{jobID}/results", "get"): "getResult",
    ("/jobs/{jobID}/results/{outputID}", "get"): "getOutput",
}


def definition(document: Mapping[str, Any], server: str) -> dict[str, Any]:
    """Return the definition of what is below /ogc.

    Args:
        document: That of the whole API, in OpenAPI 3.1.
        server: URL that the paths begin with.
    """
    paths: dict[str, Any] = {}
    for path, methods in document["paths"].items():
        if concerns(path):
            short = _renamed(path.removeprefix(PREFIX)) or "/"
            paths[short] = {method: _operation(short, method, said) for method, said in methods.items()}
    info = {key: document["info"][key] for key in ("title", "version", "description") if key in document["info"]}
    found: dict[str, Any] = {"openapi": "3.0.3", "info": info, "servers": [{"url": server}], "paths": paths}
    found["components"] = _components(document["components"], found)
    return found


def _renamed(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: f"{{{_NAMES.get(name[1], name[1])}}}", path)


def _operation(path: str, method: str, said: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {**said, "operationId": _OPERATIONS.get((path, method), said["operationId"])}
    if "parameters" in said:
        operation["parameters"] = [_parameter(each) for each in said["parameters"]]
    if "requestBody" in said:
        operation["requestBody"] = _with_content(said["requestBody"])
    operation["responses"] = {status: _with_content(each) for status, each in said["responses"].items()}
    return operation


def _parameter(said: Mapping[str, Any]) -> dict[str, Any]:
    schema = downgraded(said.get("schema", {}))
    return {**said, "name": _NAMES.get(said["name"], said["name"]), "schema": schema}


def _with_content(said: Mapping[str, Any]) -> dict[str, Any]:
    if "content" not in said:
        return dict(said)
    kinds = {
        kind: {**media, "schema": downgraded(media["schema"])} if "schema" in media else dict(media)
        for kind, media in said["content"].items()
    }
    return {**said, "content": kinds}


def _components(parts: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the components that are referred to, and those that they refer to themselves."""
    kept: dict[str, Any] = {"schemas": {}, "responses": {}, "securitySchemes": parts.get("securitySchemes", {})}
    todo = list(_references(found))
    while todo:
        _, _, kind, name = todo.pop().split("/")
        if name in kept[kind]:
            continue
        each = parts[kind][name]
        kept[kind][name] = downgraded(each) if kind == "schemas" else _with_content(each)
        todo += _references(kept[kind][name])
    return {kind: named for kind, named in kept.items() if named}


def _references(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for below in tree.values():
            yield from _references(below)
    elif isinstance(tree, list):
        for below in tree:
            yield from _references(below)
