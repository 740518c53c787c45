"""What does an execute request ask for? Its inputs told apart: options, files by reference, files in the request."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.services.ogc.errors import ExecutionInvalid
from app.services.ogc.media import ANY, is_text, plain, types_of
from pipeline.contracts import InputSlot, OutputSlot, Spec

RESULTS = OutputSlot("results", "The result document", "application/json")
"""The output that every process has."""
VALUE, REFERENCE = "value", "reference"


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file that came with the request."""

    content: bytes
    filename: str


@dataclass(slots=True)
class Order:
    """What is to be run.

    Args:
        options: Options of the pipeline, not yet checked.
        links: URL of each file to be fetched, by label.
        files: Files that came with the request, by label.
    """

    options: dict[str, Any] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, InlineFile] = field(default_factory=dict)


def outputs_of(spec: Spec) -> dict[str, OutputSlot]:
    """Return the outputs of a process by label, the result document first."""
    return {slot.label: slot for slot in (RESULTS, *spec.outputs)}


def read_inputs(spec: Spec, inputs: Mapping[str, Any]) -> Order:
    """Tell inputs apart.

    Raises:
        ExecutionInvalid: If there is one that the process does not take, one is missing, or a file is neither a link
            nor a value.
    """
    order, problems = Order(), []
    slots = {slot.label: slot for slot in spec.inputs}
    for label, given in inputs.items():
        try:
            if label in slots:
                _take_file(order, slots[label], given)
            elif label in spec.params.model_fields:
                order.options[label] = _option(given)
            else:
                known = ", ".join([*slots, *spec.params.model_fields])
                raise ValueError(f"The process has no such input; it takes {known or 'none'}.")
        except ValueError as error:
            problems.append({"field": f"inputs.{label[:64]}", "message": str(error)})
    problems += [
        {"field": f"inputs.{label}", "message": f"{slots[label].title}: is required; give a link to the file."}
        for label in spec.labels
        if label not in inputs
    ]
    if problems:
        raise ExecutionInvalid(problems)
    return order


def read_outputs(spec: Spec, outputs: Mapping[str, Any]) -> dict[str, str]:
    """Return how each output that is asked for is to be given; all by value if none is named.

    Args:
        spec: The pipeline.
        outputs: For each label an object with perhaps ``transmissionMode`` and ``format.mediaType``.

    Raises:
        ExecutionInvalid: If the process has no such output, or not in such a format.
    """
    known, wanted, problems = outputs_of(spec), {}, []
    for label, given in outputs.items():
        asked = plain(str(((given or {}).get("format") or {}).get("mediaType") or ""))
        if label not in known:
            message = f"The process has no such output; it has {', '.join(known)}."
        elif asked and asked != (has := plain(known[label].media_type)):
            message = f"This output is {has}, and cannot be had as {asked[:64]}."
        else:
            wanted[label] = (given or {}).get("transmissionMode") or VALUE
            continue
        problems.append({"field": f"outputs.{label[:64]}", "message": message})
    if problems:
        raise ExecutionInvalid(problems)
    return wanted or dict.fromkeys(known, VALUE)


def _option(given: Any) -> Any:
    """Return the value of an option; a qualified value is an object with ``value`` and perhaps its format."""
    if isinstance(given, dict) and "value" in given and given.keys() <= _QUALIFIED:
        return given["value"]
    if isinstance(given, dict) and "href" in given:
        raise ValueError("This input is a value; it cannot be given by a link.")
    return given


_QUALIFIED = {"value", "mediaType", "encoding", "schema", "format"}


def _take_file(order: Order, slot: InputSlot, given: Any) -> None:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        given = {"value": given}
    if not isinstance(given, dict):
        raise ValueError('Give one link {"href": …, "type": …}, or one value in base64.')
    if "href" in given:
        if not isinstance(given["href"], str):
            raise ValueError("href: must be the URL of the file.")
        order.links[slot.label] = given["href"]
        return
    if not isinstance(given.get("value"), str):
        raise ValueError('Give a link {"href": …, "type": …}, or the file in base64 as {"value": …, "mediaType": …}.')
    told = given["format"] if isinstance(given.get("format"), dict) else given
    media_type, encoding = str(told.get("mediaType") or ""), str(told.get("encoding") or "").lower()
    order.files[slot.label] = InlineFile(
        _content(slot, given["value"], media_type, encoding), f"{slot.label}{_ending(slot, media_type)}"
    )


def _ending(slot: InputSlot, media_type: str) -> str:
    """Return what the name of a file of such a type ends with, so far as that can be told."""
    known = types_of(slot.formats)
    if not media_type:
        return slot.formats[0] if len(slot.formats) == 1 else ""
    if ANY not in known and plain(media_type) not in {*known, ANY}:
        raise ValueError(f"mediaType: {media_type[:64]} is none that this input takes: {', '.join(known)}.")
    return known.get(plain(media_type), "")


def _content(slot: InputSlot, value: str, media_type: str, encoding: str) -> bytes:
    is_words = is_text(media_type) if media_type else all(is_text(each) for each in types_of(slot.formats))
    if encoding in {"", "utf-8", "utf8"} and is_words:
        return value.encode("utf-8", "surrogatepass")
    if encoding not in {"", "base64", "binary"}:
        raise ValueError("encoding: must be base64.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("The value is not base64.") from None
