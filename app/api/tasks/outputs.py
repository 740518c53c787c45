"""What a finished task hands out: its result document, its files, and its report in five formats."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from app.api.deps import ContextDep, ReadDep
from app.api.problems import examples
from app.api.schemas import ArtifactList, ArtifactOut
from app.api.tasks.looking import matches, tag_of
from app.context import Context
from app.db.models import Task
from app.domain import errors
from app.domain.media import disposition
from app.services import tasks
from app.services.reports import files
from app.services.reports.errors import ReportNotFound

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

_NO_TASK = errors.TaskNotFound()
_NOT_READY = errors.NotReady("running")
_EXPIRED = errors.ResultExpired()
_NO_REPORT = ReportNotFound("pdf", ["json", "csv", "geojson"])
_KEPT = "private, no-cache"
_REDIRECT: dict[int | str, dict[str, Any]] = {
    307: {"description": "To a link that works without headers, takes Range, and expires."}
}
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document; for ``volume_change``, its schema is docs/schema/volume_change-1.json.",
        "content": {"application/json": {"example": {"schema": "volcal/volume_change/1", "hulls": []}}},
    }
}

DownloadQuery = Annotated[bool, Query(description="Have browsers save the file instead of showing it.")]
MatchHeader = Annotated[str | None, Header(description="``ETag`` of an answer before; 304 if it is still the same.")]


@router.get(
    "/{task_id}/results",
    summary="Fetch the result document",
    response_class=JSONResponse,
    responses={
        **examples(_NO_TASK, _NOT_READY, _EXPIRED),
        **_DOCUMENT,
    },
)
def results(task_id: UUID, work: ReadDep) -> dict[str, Any]:
    """Return the result document, as ``results.json`` has it."""
    return tasks.results(work, task_id).document or {}


@router.get("/{task_id}/artifacts", summary="List the result files", responses=examples(_NO_TASK, _NOT_READY, _EXPIRED))
def artifacts(task_id: UUID, work: ReadDep, context: ContextDep) -> ArtifactList:
    """List the files of the result with a fresh link each."""
    return ArtifactList(artifacts=[_artifact(context, found) for found in tasks.results(work, task_id).artifacts or []])


@router.head("/{task_id}/artifacts/{name:path}", include_in_schema=False)
@router.get(
    "/{task_id}/artifacts/{name:path}",
    status_code=HTTPStatus.TEMPORARY_REDIRECT,
    response_class=RedirectResponse,
    summary="Fetch a result file",
    responses={**examples(_NO_TASK, errors.ObjectNotFound("overview.png"), _NOT_READY, _EXPIRED), **_REDIRECT},
)
def artifact(
    request: Request, task_id: UUID, name: str, work: ReadDep, context: ContextDep, download: DownloadQuery = False
) -> Response:
    """Redirect to a link of the file that works without headers and expires.

    The link takes ``Range``, so a download can go on where it stopped. ``HEAD`` is answered at once,
    with type and length, since links of an object store are good for ``GET`` alone.
    """
    found = tasks.artifact(tasks.results(work, task_id), name)
    return _hand_over(request, context, found, name.rpartition("/")[2] if download else None)


def _artifact(context: Context, found: dict[str, Any]) -> ArtifactOut:
    url = context.store.url(found["key"], expires_s=context.policy.link_ttl_s)
    return ArtifactOut(
        name=found["name"], media_type=found["media_type"], title=found["title"], size=found["size"], url=url
    )


@router.head("/{task_id}/report.json", include_in_schema=False)
@router.get(
    "/{task_id}/report.json",
    summary="Fetch the report as JSON",
    response_class=JSONResponse,
    responses={
        **examples(_NO_TASK, _NOT_READY, _EXPIRED),
        **_DOCUMENT,
        304: {"description": "It is as ``If-None-Match`` says."},
    },
)
def report_json(task_id: UUID, work: ReadDep, if_none_match: MatchHeader = None) -> Response:
    """Return the result document, under a name to save it by; every pipeline has one."""
    task = tasks.results(work, task_id)
    body = JSONResponse(task.document).body
    return _answer(task, "json", bytes(body), "application/json", if_none_match)


@router.head("/{task_id}/report.csv", include_in_schema=False)
@router.get(
    "/{task_id}/report.csv",
    summary="Fetch the report as a table",
    response_class=Response,
    responses={
        **examples(_NO_TASK, _NO_REPORT, _NOT_READY, _EXPIRED),
        200: {
            "description": "A line for each change, and one for all.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        304: {"description": "It is as ``If-None-Match`` says."},
    },
)
def report_csv(task_id: UUID, work: ReadDep, if_none_match: MatchHeader = None) -> Response:
    """Return the changes as CSV: every volume with its 95 % interval, units in the head, totals last."""
    task = tasks.results(work, task_id)
    return _answer(task, "csv", files.table(task), "text/csv; charset=utf-8; header=present", if_none_match)


def _redirecting(kind: str) -> dict[str, Any]:
    return {
        "status_code": HTTPStatus.TEMPORARY_REDIRECT,
        "response_class": RedirectResponse,
        "summary": f"Fetch the report as {kind}",
        "responses": {**examples(_NO_TASK, _NO_REPORT, _NOT_READY, _EXPIRED), **_REDIRECT},
    }


@router.head("/{task_id}/report.geojson", include_in_schema=False)
@router.get("/{task_id}/report.geojson", **_redirecting("GeoJSON"))
def report_geojson(
    request: Request, task_id: UUID, work: ReadDep, context: ContextDep, download: DownloadQuery = False
) -> Response:
    """Redirect to the outlines with all figures: longitude and latitude if the surveys name a coordinate system.

    Else they are in the surveys' own coordinates; the member ``coordinate_system`` says which.
    """
    return _report(request, context, tasks.results(work, task_id), "geojson", download)


@router.head("/{task_id}/report.html", include_in_schema=False)
@router.get("/{task_id}/report.html", **_redirecting("a page"))
def report_html(
    request: Request, task_id: UUID, work: ReadDep, context: ContextDep, download: DownloadQuery = False
) -> Response:
    """Redirect to the report as one page that needs no network."""
    return _report(request, context, tasks.results(work, task_id), "html", download)


@router.head("/{task_id}/report.pdf", include_in_schema=False)
@router.get("/{task_id}/report.pdf", **_redirecting("PDF"))
def report_pdf(
    request: Request, task_id: UUID, work: ReadDep, context: ContextDep, download: DownloadQuery = False
) -> Response:
    """Redirect to the report as A4 pages for a client."""
    return _report(request, context, tasks.results(work, task_id), "pdf", download)


def _report(request: Request, context: Context, task: Task, kind: str, download: bool) -> Response:
    found = files.file(task, kind)
    return _hand_over(request, context, found, files.filename(task, kind) if download else None)


def _hand_over(request: Request, context: Context, found: dict[str, Any], save_as: str | None) -> Response:
    if request.method == "HEAD":
        name = save_as or found["name"].rpartition("/")[2]
        headers = {
            "Content-Length": str(found["size"]),
            "Accept-Ranges": "bytes",
            "Content-Disposition": disposition(name, inline=save_as is None),
        }
        return Response(headers=headers, media_type=found["media_type"])
    url = context.store.url(found["key"], expires_s=context.policy.link_ttl_s, download_name=save_as)
    return RedirectResponse(url)


def _answer(task: Task, kind: str, body: bytes, media_type: str, known: str | None) -> Response:
    headers = {"ETag": tag_of(body), "Cache-Control": _KEPT}
    if known is not None and matches(known, body):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    headers["Content-Disposition"] = disposition(files.filename(task, kind), inline=kind == "json")
    return Response(body, media_type=media_type, headers=headers)
