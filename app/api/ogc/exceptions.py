"""From a problem document to the exception that the standard has for it; RFC 7807 both."""

from http import HTTPStatus
from typing import Any

from app.services.ogc.links import PREFIX

_BASE = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
_BAD_VALUE = "InvalidParameterValue"
_TYPES = {
    "TASK_NOT_FOUND": f"{_BASE}no-such-job",
    "PIPELINE_NOT_FOUND": f"{_BASE}no-such-process",
    "OUTPUT_NOT_FOUND": f"{_BASE}no-such-output",
    "NOT_READY": f"{_BASE}result-not-ready",
    "CURSOR_INVALID": f"{_BASE}invalid-query-parameter-value",
    "EXECUTION_INVALID": _BAD_VALUE,
    "OPTIONS_INVALID": _BAD_VALUE,
    "REQUEST_INVALID": _BAD_VALUE,
    "URL_REFUSED": _BAD_VALUE,
    "FETCH_FAILED": _BAD_VALUE,
    "INPUT_INVALID": _BAD_VALUE,
    "INPUT_TOO_LARGE": _BAD_VALUE,
    "STABLE_AREA_EMPTY": _BAD_VALUE,
    "REGISTRATION_FAILED": _BAD_VALUE,
}
_GONE = {"CANCELLED", "EXPIRED"}


def concerns(path: str) -> bool:
    """Return whether errors at this path are told in the standard's words."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def translate(document: dict[str, Any]) -> dict[str, Any]:
    """Return a problem document with the type, and the status, that the standard asks for; its code stays.

    >>> translate({"code": "NOT_READY", "status": 409, "type": "/docs/errors#NOT_READY"})["status"]
    404
    """
    code, status = document["code"], document["status"]
    if code == "NOT_READY":
        status = HTTPStatus.NOT_FOUND
    elif status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return {**document, "type": _TYPES.get(code, document["type"]), "status": int(status)}


def status_of_failure(code: str) -> HTTPStatus:
    """Return the status that says why a job has no result: the client's fault, a job that was dismissed, or ours.

    >>> [int(status_of_failure(code)) for code in ("INPUT_INVALID", "CANCELLED", "OUT_OF_MEMORY")]
    [400, 410, 500]
    """
    if _TYPES.get(code) == _BAD_VALUE:
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.GONE if code in _GONE else HTTPStatus.INTERNAL_SERVER_ERROR
