"""The root, and whether the service lives and is ready."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field

from app.api.deps import ContextDep
from app.context import Context
from app.db import migrate

router = APIRouter()


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
