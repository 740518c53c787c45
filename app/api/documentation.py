"""/docs without the Internet, the page of error codes, and what the OpenAPI document says as a whole."""

import html
import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api import classic
from app.api.access import description
from app.api.openapi import bodies, examples
from app.api.problems import status_of, title_of
from app.domain import failures
from app.domain.errors import VolcalError
from pipeline.errors import PipelineError

router = APIRouter(include_in_schema=False)

ASSETS = "/docs-assets"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Cpath fill='%23274' d='M0 7 3 1l2 3 1-1 2 4z'/%3E%3C/svg%3E"
)
_STYLE = "body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}td{padding:.2rem .8rem .2rem 0}"


@router.get("/docs")
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


@router.get("/docs/errors")
def errors() -> HTMLResponse:
    """List the codes; the ``type`` of each problem document leads here."""
    rows = "".join(
        f"<tr id={code}><td><code>{code}</code><td>{status}<td>{html.escape(title)}" for code, status, title in codes()
    )
    head = "<!doctype html><html lang=en><meta charset=utf-8><title>Volcal: error codes</title>"
    table = f"<table><tr><th>code<th>status<th>meaning{rows}</table>"
    return HTMLResponse(f"{head}<style>{_STYLE}</style><h1>Error codes</h1>{table}")


def codes() -> Iterator[tuple[str, str, str]]:
    """Yield code, HTTP status and meaning of every error that a client can meet, by code."""
    found = {kind.code: (str(int(status_of(kind))), title_of(kind)) for kind in _leaves(VolcalError)}
    found |= {kind.code: ("in a result", title_of(kind)) for kind in _leaves(PipelineError)}
    found |= {code: ("in a result", meaning) for code, meaning in failures.CODES.items()}
    found |= {
        "REQUEST_INVALID": ("422", "The request is malformed"),
        "BODY_TOO_LARGE": ("413", "The body is too large; files are sent to upload URLs"),
        "UNAVAILABLE": ("503", "The database does not answer just now"),
    }
    for code in sorted(found):
        yield (code, *found[code])


def _leaves(kind: type[Any]) -> Iterator[type[Any]]:
    below = kind.__subclasses__()
    yield from (leaf for child in below for leaf in _leaves(child)) if below else (kind,)


def describe(app: FastAPI) -> None:
    """Serve Swagger UI's files, which come with a package, and mend what the schema says about errors."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("fastapi-offline, which carries Swagger UI, is not installed")
    app.mount(ASSETS, StaticFiles(directory=Path(found.origin).parent / "static"), name="docs-assets")
    build = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build()
        for methods in schema["paths"].values():
            for operation in methods.values():
                # FastAPI supposes that any parameter can be wrong; here, those that can say so as a problem document.
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        if "securitySchemes" not in schema["components"]:  # FastAPI gives the same document each time
            description.describe(schema)
            bodies.describe(schema)
            examples.describe(schema)
        # Set here, since FastAPI leaves nulls out of examples, and clients depend on them.
        answer = schema["paths"]["/query_task/{task_id}"]["get"]["responses"]["200"]
        answer["content"]["application/json"]["examples"] = classic.EXAMPLES
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def about() -> dict[str, Any]:
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
            {"name": "images", "description": "Image pipelines: images by URL, answered at once; no tasks."},
            {"name": "ogc", "description": "OGC API - Processes 1.0: the same tasks for clients of the standard."},
            {"name": "rasters", "description": "Predictions from satellite scenes, as their clients speak it."},
            {"name": "queues", "description": "How much work waits, and who takes it."},
            {"name": "webhooks", "description": "Who is told of what happens to one's tasks, and what they were told."},
            {"name": "keys", "description": "Who may call: for who has a key with the scope `admin`."},
            {"name": "health", "description": "For operators and their monitors."},
        ],
    }


_DESCRIPTION = """\
Send two point clouds and a shapefile of ground that did not move; get scored change hulls with cut, fill and net
volumes, each with a 95 % interval, and pictures.

1. `POST /create_task` (or `POST /api/v1/tasks`) opens a task and an upload URL for each file.
2. Send each file by [tus 1.0](https://tus.io): `HEAD` says where to continue, `PATCH` appends. The length may be
   told with the first `PATCH` (`Upload-Length`). Or name a file by a URL (`inputs`), and the service fetches it.
3. Each file is looked at when it has arrived; a bad one ends the task in `error` with a code and a remedy, and
   `POST /api/v1/tasks/{id}/uploads/{label}` gives a fresh URL for it. Once all files are there the task starts.
4. Poll `GET /query_task/{id}` (or `GET /api/v1/tasks/{id}`) until `done`, `error` or `killed`.

Where the server asks for a key, send it as `Authorization: Bearer vk_…`; others' tasks are then not there (404).

Errors below `/api/v1` are problem documents (RFC 9457) whose `code` is frozen; [all codes](/docs/errors).
"""
