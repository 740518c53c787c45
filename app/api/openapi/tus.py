"""The headers, the body and the refusals of tus 1.0, which are in no route's signature."""

from typing import Any

from app.api.problems import examples
from app.domain import errors
from app.uploads.errors import (
    ContentTypeWrong,
    HeaderInvalid,
    OffsetMismatch,
    UploadGone,
    UploadStalled,
    UploadSuperseded,
    VersionUnsupported,
)
from pipeline.errors import StorageFull

_PATH = "/files/…"
_BYTES = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_WHERE = {
    "Upload-Offset": {"description": "The byte to continue at.", "schema": _BYTES, "required": True},
    "Upload-Expires": {"description": "When an unfinished upload is given up.", "schema": {"type": "string"}},
}


def _header(name: str, about: str, schema: dict[str, Any], *, example: Any, required: bool = False) -> dict[str, Any]:
    told = {"name": name, "in": "header", "description": about, "required": required, "schema": schema}
    return {**told, "example": example}


def _version(*, required: bool) -> dict[str, Any]:
    about = "The version of the protocol."
    return _header("Tus-Resumable", about, {"type": "string", "const": "1.0.0"}, example="1.0.0", required=required)


_LENGTH = _header("Upload-Length", "Bytes in all, where they were not told before.", _BYTES, example=8)
_OFFSET = "The byte at which the body begins: where the upload stands."
_BODY = {
    "required": True,
    "content": {
        "application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "0 0 0.5\n"}
    },
}
_REFUSALS = examples(
    HeaderInvalid("Upload-Offset must be a whole number of bytes, not 'x'."),
    errors.UploadNotFound(),
    OffsetMismatch(3),
    UploadStalled(),
    UploadGone(),
    VersionUnsupported(None),
    errors.UploadQuotaReached(10**12, 10**12 - 5, 7),
    errors.UploadTooLarge(50 * 2**30),
    ContentTypeWrong(),
    UploadSuperseded(),
    StorageFull("The server's disk is full; what arrived is kept.", remedy="Free space on the server, then resume."),
    instance=_PATH,
)
_BY_BODY = (409, 415, 423, 507)
_NO_BODY = {
    status: {"description": told["description"]} for status, told in _REFUSALS.items() if status not in _BY_BODY
}

HEAD: dict[str, Any] = {
    "responses": {
        **_NO_BODY,
        200: {
            "description": "Where it stands.",
            "headers": {
                **_WHERE,
                "Upload-Length": {"description": "Bytes in all, once they are known.", "schema": _BYTES},
                "Upload-Defer-Length": {
                    "description": "1 as long as they are not.",
                    "schema": {"type": "integer", "const": 1},
                },
            },
        },
    },
    "openapi_extra": {"parameters": [_version(required=False), _LENGTH]},
}
"""What a HEAD of an upload has beside its path."""

PATCH: dict[str, Any] = {
    "responses": {**_REFUSALS, 204: {"description": "The bytes are kept.", "headers": _WHERE}},
    "openapi_extra": {
        "parameters": [
            _version(required=True),
            _header("Upload-Offset", _OFFSET, _BYTES, example=0, required=True),
            _LENGTH,
        ],
        "requestBody": _BODY,
    },
}
"""What a PATCH has."""

POST: dict[str, Any] = {
    "responses": {
        **_REFUSALS,
        **examples(
            errors.UploadRefused("An upload is continued with PATCH and asked about with HEAD."), instance=_PATH
        ),
        200: {"description": "As to HEAD.", "headers": _WHERE},
        204: {"description": "As to PATCH.", "headers": _WHERE},
    },
    "openapi_extra": {
        "parameters": [
            _version(required=True),
            _header(
                "X-HTTP-Method-Override",
                "What is meant.",
                {"type": "string", "enum": ["PATCH", "HEAD"]},
                example="PATCH",
                required=True,
            ),
            _header("Upload-Offset", _OFFSET, _BYTES, example=0),
            _LENGTH,
        ],
        "requestBody": {**_BODY, "required": False},
    },
}
"""What a POST has, which stands for one of the two."""

CREATE = examples(
    errors.UploadRefused("Uploads are opened by creating a task (POST /create_task), which gives one URL per file."),
    instance="/files",
)
"""The only answer of a creation."""
