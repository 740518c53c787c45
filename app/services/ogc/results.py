"""The parts of a finished task's result, one for each output that is wanted."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db.models import Task
from app.services.ogc.asking import RESULTS, VALUE, outputs_of
from app.services.ogc.errors import OutputNotFound
from app.services.ogc.media import is_json, is_text, plain
from pipeline.contracts import OutputSlot

if TYPE_CHECKING:
    from app.context import Context

LARGEST_INLINE = 8 * 2**20
"""Bytes of a file up to which a document may hold it; a larger one is told by a link even if its value is wanted."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One output of a job.

    Args:
        mode: ``value`` or ``reference``, as it is wanted.
        value: What it is, if it is a value.
        key: Where the store has it, if it is a file.
        size: Of the file, bytes.
    """

    label: str
    title: str
    media_type: str
    mode: str
    value: Any = None
    key: str = ""
    size: int = 0


def parts_of(context: "Context", task: Task, wanted: Mapping[str, str]) -> list[Part]:
    """Return the outputs that are wanted, as far as the run left them, in the order of the process."""
    spec = context.catalogue.get(task.pipeline)
    slots = {RESULTS.label: RESULTS} if spec is None else outputs_of(spec)
    found = (_part(task, slot, wanted[label]) for label, slot in slots.items() if label in wanted)
    return [part for part in found if part is not None]


def labels(context: "Context", pipeline: str) -> list[str]:
    """Return the outputs that jobs of a process may have."""
    spec = context.catalogue.get(pipeline)
    return [RESULTS.label] if spec is None else list(outputs_of(spec))


def everything(context: "Context", task: Task) -> list[Part]:
    """Return all outputs that the run left."""
    return parts_of(context, task, dict.fromkeys(labels(context, task.pipeline), VALUE))


def part_of(context: "Context", task: Task, label: str) -> Part:
    """Return one output.

    Raises:
        OutputNotFound: If there is none of that name.
    """
    there = {part.label: part for part in everything(context, task)}
    if label not in there:
        raise OutputNotFound(label, list(there))
    return there[label]


def _part(task: Task, slot: OutputSlot, mode: str) -> Part | None:
    document = task.document or {}
    if slot.file:
        files = {found["name"]: found for found in task.artifacts or []}
        if (file := files.get(slot.file)) is None:
            return None
        return Part(slot.label, slot.title, file["media_type"], mode, key=file["key"], size=file["size"])
    if slot.member and slot.member not in document:
        return None
    return Part(slot.label, slot.title, slot.media_type, mode, document[slot.member] if slot.member else document)


def content(context: "Context", part: Part) -> Iterator[bytes]:
    """Yield the bytes of an output.

    Raises:
        OSError: If the store cannot be read.
    """
    if part.key:
        with context.store.open(part.key) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    elif isinstance(part.value, str):
        yield part.value.encode("utf-8", "replace")
    else:
        yield json.dumps(part.value, allow_nan=False).encode()


def inline(context: "Context", part: Part) -> Any:
    """Return an output as a document holds it: plain words and numbers as they are, all else with its media type."""
    if not part.key:
        is_plain = isinstance(part.value, str | int | float | bool)
        return part.value if is_plain else {"value": part.value, "mediaType": part.media_type}
    whole = b"".join(content(context, part))
    if is_json(part.media_type):
        return {"value": json.loads(whole), "mediaType": plain(part.media_type)}
    if is_text(part.media_type):
        return {"value": whole.decode("utf-8", "replace"), "mediaType": part.media_type}
    return {"value": base64.b64encode(whole).decode(), "mediaType": part.media_type, "encoding": "base64"}
