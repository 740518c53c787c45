"""Files of the local store, behind signed links that expire; an S3 store serves its own."""

import time
from pathlib import PurePosixPath

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from app.api.deps import ContextDep
from app.domain.errors import ObjectNotFound
from app.domain.media import is_active, media_type
from app.storage.local import LocalStore

router = APIRouter(tags=["files"])

# a report is somebody's data: it may style itself and run its own script, and reach nothing of this site
_SANDBOX = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


class _Answer(FileResponse):
    """A file, read in larger steps than the framework's."""

    chunk_size = 1 << 18


@router.head("/objects/{key:path}", include_in_schema=False)
@router.get(
    "/objects/{key:path}",
    summary="Download a file by its signed link",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        206: {"description": "The part that the Range header asks for."},
        304: {"description": "The client has it already (If-None-Match)."},
        403: {"description": "The link was changed or has expired."},
        404: {"description": "The file was deleted."},
        416: {"description": "The range lies outside the file."},
    },
)
def download(
    request: Request,
    context: ContextDep,
    key: str,
    expires: str = Query(default="", description="Unix time until which the link works."),
    sig: str = Query(default="", description="The signature."),
    name: str | None = Query(default=None, description="Save the file under this name instead of showing it."),
) -> Response:
    """Answer with a file; no headers are needed, so that any image loader works."""
    store = context.store
    if not isinstance(store, LocalStore):
        raise ObjectNotFound(PurePosixPath(key).name)
    now = time.time()
    store.verify(key, expires, sig, name, now)
    try:
        path = store.path(key)
        found = path.stat()
    except (FileNotFoundError, ValueError):
        raise ObjectNotFound(PurePosixPath(key).name) from None
    response = _Answer(
        path,
        media_type=media_type(name or key),
        filename=name or PurePosixPath(key).name,
        content_disposition_type="inline" if name is None else "attachment",
        stat_result=found,
        headers=_headers(key, int(expires) - now),
    )
    etag = response.headers["etag"]
    if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        kept = {"etag": etag, "cache-control": response.headers["cache-control"]}
        return Response(status_code=304, headers=kept)
    return response


def _headers(key: str, seconds_left: float) -> dict[str, str]:
    headers = {
        "Cache-Control": f"private, max-age={max(0, int(seconds_left))}",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if is_active(key):
        headers["Content-Security-Policy"] = _SANDBOX
    return headers
