"""The root, /docs without the Internet, and whether the service lives and is ready."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from app.api.deps import ContextDep
from app.context import Context
from app.db import migrate

router = APIRouter()

ASSETS = "/docs-assets"
_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cpath fill='%23274' d='M0 7 3 1l2 3 1-1 2 4z'/%3E%3C/svg%3E"  # noqa: E501  (a picture)


def docs_assets() -> StaticFiles:
    """Return Swagger UI's files, which come with a package, so that /docs works offline."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("fastapi-offline, which carries Swagger UI, is not installed")
    return StaticFiles(directory=Path(found.origin).parent / "static")


@router.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Show the API; loads nothing from other hosts."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Volcal API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=_ICON,
        swagger_ui_parameters={"validatorUrl": None, "docExpansion": "list", "tryItOutEnabled": True},
    )


@router.get("/", include_in_schema=False)
def root(request: Request) -> Response:
    """Lead people to the documentation, and tell machines who this is."""
    accepted = [part.split(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    if accepted == ["application/json"]:
        return JSONResponse({"service": "volcal", "status": "running", "version": version("volcal-server")})
    return RedirectResponse("/docs")


class Alive(BaseModel):
    """The process answers."""

    status: bool = Field(examples=[True])


class Ready(BaseModel):
    """Whether the service can do its work."""

    status: list[str] = Field(
        description="The pipelines that can be run; empty if none.", examples=[["constant", "volume_change"]]
    )
    problems: list[str] = Field(description="What is wrong, for operators.", examples=[[]])


@router.get("/livez", tags=["health"], summary="Whether the process lives")
def livez() -> Alive:
    """Answer; nothing else is looked at, so a broken database does not make anyone restart the process."""
    return Alive(status=True)


@router.get(
    "/readyz",
    tags=["health"],
    summary="Whether the service can do its work",
    responses={503: {"model": Ready, "description": "It cannot; ``problems`` says why."}},
)
def readyz(context: ContextDep, response: Response) -> Ready:
    """Look at the database, its tables, the data folder and the free disk."""
    problems = list(_problems(context))
    if problems:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Ready(status=[] if problems else sorted(context.catalogue), problems=problems)


def _problems(context: Context) -> Iterator[str]:
    checks: list[Callable[[Context], str | None]] = [_database, _folder, _disk]
    for check in checks:
        if problem := check(context):
            yield problem


def _database(context: Context) -> str | None:
    try:
        current = migrate.is_current(context.engine)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the answer)
        return f"the database does not answer ({type(error).__name__})"
    return None if current else "the database's tables are not up to date: run `volcal db upgrade`"


def _folder(context: Context) -> str | None:
    if context.data_dir is None:
        return None
    try:
        with tempfile.TemporaryFile(dir=context.data_dir) as probe:
            probe.write(b"volcal")
    except OSError as error:
        return f"the data folder cannot be written ({os.strerror(error.errno or 0)})"
    return None


def _disk(context: Context) -> str | None:
    if context.data_dir is None:
        return None
    try:
        free = shutil.disk_usage(context.data_dir).free
    except OSError:
        return None  # the folder's own check says what is wrong
    wanted = context.policy.min_free_bytes
    return None if free >= wanted else f"only {free >> 20} MiB of disk are free, {wanted >> 20} MiB are wanted"


def describe_api() -> dict[str, Any]:
    """Return what the OpenAPI document says about the API as a whole."""
    return {
        "title": "Volcal",
        "version": version("volcal-server"),
        "summary": "How much ground moved between two surveys, and how sure one may be.",
        "description": _DESCRIPTION,
        "openapi_tags": [
            {"name": "compat", "description": "The three routes that phones and remote controls use."},
            {"name": "tasks", "description": "Create, upload to, follow, stop and fetch tasks."},
            {"name": "uploads", "description": "Resumable uploads by tus 1.0."},
            {"name": "files", "description": "Pictures and files behind signed links."},
            {"name": "pipelines", "description": "What can be run, with which options."},
            {"name": "health", "description": "For operators and their monitors."},
        ],
    }


_DESCRIPTION = """\
Send two point clouds and a shapefile of ground that did not move; get scored change hulls with cut, fill and net
volumes, each with a 95 % interval, and pictures.

1. `POST /create_task` (or `POST /api/v1/tasks`) opens a task and an upload URL for each file.
2. Send each file by [tus 1.0](https://tus.io): `HEAD` says where to continue, `PATCH` appends. The length may be
   told with the first `PATCH` (`Upload-Length`).
3. Each file is looked at when it has arrived; a bad one ends the task in `error` with a code and a remedy, and
   `POST /api/v1/tasks/{id}/uploads/{label}` gives a fresh URL for it. Once all files are there the task starts.
4. Poll `GET /query_task/{id}` (or `GET /api/v1/tasks/{id}`) until `done`, `error` or `killed`.

Errors below `/api/v1` are problem documents (RFC 9457) whose `code` is frozen.
"""
