"""How a task says why it failed: the error document, and the failures that no pipeline can see.

CANCELLED  the user asked for it
LOST       its worker vanished as often as is allowed
EXPIRED    its files did not arrive in time
FETCH_FAILED  a file did not come from its URL

The codes are public and frozen; those of a run are in ``pipeline.errors``, and ``docs/errors.md`` lists both.
"""

import json
from typing import Any

CODES = {
    "CANCELLED": "The user cancelled the task",
    "LOST": "The worker vanished while it ran the task, as often as is allowed",
    "EXPIRED": "The files did not arrive in time",
    "FETCH_FAILED": "A file could not be fetched from its URL",
}


def error_document(
    code: str, message: str, *, remedy: str, label: str | None = None, details: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object that a failed task carries.

    >>> error_document("CANCELLED", "The task was cancelled.", remedy="Restart it.")["label"] is None
    True
    """
    return {"code": code, "label": label, "message": message, "remedy": remedy, "details": details or {}}


def cancelled() -> dict[str, Any]:
    """Say that the user cancelled the task."""
    return error_document(
        "CANCELLED", "The task was cancelled.", remedy="Restart it if it was cancelled by mistake; its files are kept."
    )


def lost(attempts: int) -> dict[str, Any]:
    """Say that workers vanished while they ran the task, ``attempts`` times."""
    return error_document(
        "LOST",
        f"The worker vanished while it ran this task, {attempts} times in all.",
        remedy="Look into the worker's log (memory, power, disk), then restart the task.",
        details={"attempts": attempts},
    )


def expired(waited_s: int) -> dict[str, Any]:
    """Say that the files did not arrive within ``waited_s`` seconds."""
    return error_document(
        "EXPIRED",
        f"Not all files had arrived after {waited_s} seconds, so the task was given up and what had come was deleted.",
        remedy="Create a new task and upload the files again.",
        details={"waited_s": waited_s},
    )


def plain(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error document that any database and client can take.

    An error must always be recordable: what JSON cannot say becomes null or text.

    >>> plain({"details": {"overlap": float("nan")}})
    {'details': {'overlap': None}}
    """
    document: dict[str, Any] = json.loads(json.dumps(error, default=str), parse_constant=lambda _: None)
    return document
