"""Resumable uploads by tus 1.0.0 at /files: the HTTP face of ``app.uploads.tus``."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.api.access.owners import ours
from app.api.deps import REFUSAL, ContextDep
from app.api.openapi import tus as tus_headers
from app.api.problems import Problem, as_problem
from app.context import Context
from app.domain.errors import UploadNotFound, UploadRefused, VolcalError
from app.services.uploads import finished
from app.uploads.errors import (
    ContentTypeWrong,
    HeaderInvalid,
    UploadGone,
    UploadStalled,
    UploadSuperseded,
    VersionUnsupported,
)
from app.uploads.tus import TusUploads, UploadStatus
from app.uploads.writer import Body
from pipeline.errors import StorageFull

log = logging.getLogger(__name__)

_VERSION = "1.0.0"
_BODY = "application/offset+octet-stream"
_DRAIN_BYTES = 32 << 20
_DRAIN_S = 5.0
_MAX_OFFSET_DIGITS = 18
# browsers send files from pages of any origin; the unguessable URL is the right to do so, and no cookie is involved
_ALWAYS = {
    "Tus-Resumable": _VERSION,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Upload-Offset, "
    "Upload-Length, Upload-Defer-Length, Upload-Metadata, Upload-Expires, Location, Retry-After",
}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "HEAD, PATCH, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Tus-Resumable, Upload-Length, Upload-Offset, "
    "Upload-Defer-Length, Upload-Metadata, X-HTTP-Method-Override, X-Requested-With, X-Request-ID",
    "Access-Control-Max-Age": "86400",
}


class TusRoute(APIRoute):
    """A route whose every answer, also an error, has the headers that tus and browsers need."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except (VolcalError, StorageFull) as error:
                response = await as_problem(request, error)
                if not isinstance(error, UploadGone | UploadStalled | UploadSuperseded):
                    await _drain(request)
            response.headers.update(_ALWAYS)
            return response

        return answer


router = APIRouter(prefix="/files", tags=["uploads"], route_class=TusRoute)


async def _tus(context: ContextDep) -> TusUploads:
    if not isinstance(context.uploads, TusUploads):
        raise UploadNotFound
    return context.uploads


TusDep = Annotated[TusUploads, Depends(_tus)]


async def _version(request: Request) -> None:
    # HEAD and OPTIONS come from tools that know nothing of tus; what changes something must say its version
    version = request.headers.get("tus-resumable")
    if version != _VERSION and not (version is None and request.method in {"HEAD", "OPTIONS"}):
        raise VersionUnsupported(version)


MAY = [Depends(ours), Depends(_version)]


@router.options("", summary="Say what the tus endpoint can do", status_code=204)
@router.options("/{upload_id}", include_in_schema=False, status_code=204)
def options(tus: TusDep) -> Response:
    """Answer with the tus version, extensions and the largest file; also a browser's preflight."""
    says = {
        "Tus-Version": _VERSION,
        "Tus-Extension": "creation-defer-length,expiration",
        "Tus-Max-Size": str(tus.max_bytes),
    }
    return Response(status_code=204, headers={**says, **_PREFLIGHT})


@router.post(
    "",
    summary="Refused: uploads are opened by creating a task",
    response_class=Problem,
    status_code=403,
    responses=tus_headers.CREATE,
)
def create(request: Request) -> Response:
    """Refuse, and say how it is done."""
    if (refusal := request.scope.get(REFUSAL)) is not None:
        raise refusal
    raise UploadRefused("Uploads are opened by creating a task (POST /create_task), which gives one URL per file.")


@router.head(
    "/{upload_id}", summary="Ask where an upload stands", response_class=Response, dependencies=MAY, **tus_headers.HEAD
)
async def head(request: Request, upload_id: str, tus: TusDep, context: ContextDep) -> Response:
    """Answer with the offset to continue at; ``Upload-Length`` may declare the length here."""
    return await _head(request, upload_id, tus, context)


@router.patch(
    "/{upload_id}", summary="Append bytes to an upload", status_code=204, dependencies=MAY, **tus_headers.PATCH
)
async def patch(request: Request, upload_id: str, tus: TusDep, context: ContextDep) -> Response:
    """Append the body at ``Upload-Offset``; the last byte finishes the file and may start its task."""
    return await _patch(request, upload_id, tus, context)


@router.post(
    "/{upload_id}",
    summary="PATCH or HEAD for clients that can only POST",
    status_code=204,
    dependencies=MAY,
    **tus_headers.POST,
)
async def post(request: Request, upload_id: str, tus: TusDep, context: ContextDep) -> Response:
    """Do what ``X-HTTP-Method-Override`` says: PATCH or HEAD."""
    match request.headers.get("x-http-method-override", "").upper():
        case "PATCH":
            return await _patch(request, upload_id, tus, context)
        case "HEAD":
            return await _head(request, upload_id, tus, context)
    raise UploadRefused("An upload is continued with PATCH and asked about with HEAD; it is not read or deleted here.")


async def _head(request: Request, upload_id: str, tus: TusUploads, context: Context) -> Response:
    length = _number(request, "Upload-Length")
    status = await run_in_threadpool(tus.status, upload_id, length=length)
    await _settle(context, upload_id, status)
    more = {"Upload-Defer-Length": "1"} if status.length is None else {"Upload-Length": str(status.length)}
    return Response(headers={**_where(status), "Upload-Metadata": status.metadata, **more})


async def _patch(request: Request, upload_id: str, tus: TusUploads, context: Context) -> Response:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _BODY:
        raise ContentTypeWrong
    offset = _number(request, "Upload-Offset")
    if offset is None:
        raise HeaderInvalid("The header Upload-Offset is missing.")
    try:
        status = await tus.write(
            upload_id,
            offset=offset,
            length=_number(request, "Upload-Length"),
            body_length=_number(request, "Content-Length"),
            body=_body(request),
        )
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        log.exception("the disk is full")
        raise StorageFull(
            "The server's disk is full; what arrived is kept.", remedy="Free space on the server, then resume."
        ) from None
    await _settle(context, upload_id, status)
    return Response(status_code=204, headers=_where(status))


def _where(status: UploadStatus) -> dict[str, str]:
    return {"Upload-Offset": str(status.offset), "Upload-Expires": formatdate(status.expires_at, usegmt=True)}


async def _settle(context: Context, upload_id: str, status: UploadStatus) -> None:
    """Let the task know that a file is whole."""
    if not status.is_finished:
        return
    try:
        await run_in_threadpool(finished, context.seen_by(None), upload_id)  # whoever brought it: its task starts
    except Exception:
        # the bytes are safe and the client is done; the janitor finds them and starts the task
        log.exception("a finished upload could not be recorded yet")


def _body(request: Request) -> Body:
    """Return the body as it comes, by the fast way if the server has one; a client that goes away ends it early."""
    fast: Body | None = request.scope.get("extensions", {}).get("volcal.body")
    return _pieces(request) if fast is None else fast


async def _pieces(request: Request) -> AsyncIterator[Sequence[bytes]]:
    try:
        async for chunk in request.stream():
            yield [chunk]
    except ClientDisconnect:
        log.info("a client went away while it was sending")


async def _drain(request: Request) -> None:
    """Read what a refused client is still sending, within limits, so that it gets to read why."""
    if request.method not in {"PATCH", "POST"} or "expect" in request.headers:
        return
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for pieces in _body(request):
                left -= sum(map(len, pieces))
                if left < 0:
                    return
    except (TimeoutError, RuntimeError):  # the last: all of it was read before
        return


def _number(request: Request, name: str) -> int | None:
    """Return a header that counts bytes; None if it is absent."""
    text = request.headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_OFFSET_DIGITS):
        raise HeaderInvalid(f"{name} must be a whole number of bytes, not {text[:40]!r}.")
    return int(text)
