"""A pipeline as a process of the standard, all of it told by its Spec."""

from importlib.metadata import version
from typing import Any

from app.api.ogc.schema30 import downgraded
from app.context import Context
from app.services.ogc.asking import outputs_of
from app.services.ogc.links import REL, link
from app.services.ogc.media import is_json, is_text, types_of
from pipeline.contracts import InputSlot, OutputSlot, Spec

_UPLOADS = (
    'Files are given by links ({"href": …, "type": …}), small ones in the request itself, in base64. '
    "Files that no link leads to are uploaded by the task API: POST {url}/api/v1/tasks with this pipeline gives an "
    "upload URL (tus) for each, and the task is a job here as well."
)


def summary(context: Context, spec: Spec) -> dict[str, Any]:
    """Return what a list says of a process."""
    path = f"/processes/{spec.name}"
    return {
        "id": spec.name,
        "title": spec.title,
        "version": version("volcal-server"),
        "jobControlOptions": ["sync-execute", "async-execute", "dismiss"],
        "outputTransmission": ["value", "reference"],
        "links": [
            link(context, path, "self", spec.title),
            link(context, f"{path}/execution", f"{REL}execute", "Run it"),
            link(context, f"/jobs?processID={spec.name}", f"{REL}job-list", "Its jobs"),
        ],
    }


def description(context: Context, spec: Spec) -> dict[str, Any]:
    """Return all that is to be known of a process."""
    inputs = {slot.label: _file(slot) for slot in spec.inputs} | _options(spec)
    outputs = {slot.label: _output(slot) for slot in outputs_of(spec).values()}
    more = {"description": _UPLOADS.replace("{url}", context.policy.public_url)} if spec.inputs else {}
    return {**summary(context, spec), **more, "inputs": inputs, "outputs": outputs}


def _file(slot: InputSlot) -> dict[str, Any]:
    kinds = [
        {"type": "string", "contentEncoding": "binary", "contentMediaType": kind} for kind in types_of(slot.formats)
    ]
    return {
        "title": slot.title,
        "description": f"A file: {', '.join(filter(None, slot.formats)) or 'of any kind'}.",
        "minOccurs": int(slot.required),
        "maxOccurs": 1,
        "schema": kinds[0] if len(kinds) == 1 else {"oneOf": kinds},
    }


def _options(spec: Spec) -> dict[str, Any]:
    whole = spec.params.model_json_schema()
    required = set(whole.get("required", ()))
    found = {}
    for name, schema in whole.get("properties", {}).items():
        plain = downgraded(schema, whole.get("$defs", {}))
        title, words = plain.pop("title", name), plain.pop("description", "")
        found[name] = {
            "title": title,
            "description": words,
            "minOccurs": int(name in required),
            "maxOccurs": 1,
            "schema": plain,
        }
    return found


def _output(slot: OutputSlot) -> dict[str, Any]:
    if slot.member and slot.shape != "object":
        schema: dict[str, Any] = {"type": slot.shape}
    elif is_json(slot.media_type):
        schema = {"type": "object", "contentMediaType": slot.media_type}
    elif is_text(slot.media_type):
        schema = {"type": "string", "contentMediaType": slot.media_type}
    else:
        schema = {"type": "string", "contentEncoding": "binary", "contentMediaType": slot.media_type}
    return {"title": slot.title, "schema": schema}
