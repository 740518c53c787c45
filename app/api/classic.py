"""/create_task, /start_task and /query_task, exactly as the mobile and remote-control clients speak them."""

import math
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import ContextDep, OpeningDep, ReadDep, read_id
from app.api.problems import headers_of, plain_of, status_of
from app.context import Context
from app.db.models import Task
from app.domain.errors import InputsMissing, VolcalError
from app.domain.tasks import TaskState
from app.services import tasks

_TASK = "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11"
_NUMBERS = ("score", "area", "cut_volume", "fill_volume", "net_volume")


class ClassicRoute(APIRoute):
    """A route whose errors are ``{"detail": …}``, or ``{"missing": […]}`` with 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except InputsMissing as error:
                return JSONResponse({"missing": error.missing}, status_code=HTTPStatus.BAD_REQUEST)
            except VolcalError as error:
                return JSONResponse(plain_of(error), status_code=status_of(type(error)), headers=headers_of(error))

        return answer


router = APIRouter(tags=["compat"], route_class=ClassicRoute)


def _example(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": content}}}


_NO_TASK: dict[int | str, dict[str, Any]] = {404: _example("No such task.", {"detail": "Task not found"})}


class Created(BaseModel):
    """A new task."""

    id: str = Field(examples=[_TASK])
    task_id: str = Field(description="The same as ``id``.", examples=[_TASK])
    upload_urls: dict[str, str] = Field(
        description="A tus upload of deferred length for each file: pre (reference cloud), post (changed cloud), "
        "shp (ground that did not move) and shx (its index).",
        examples=[{label: f"http://127.0.0.1:8000/files/{label}…" for label in ("pre", "post", "shp", "shx")}],
    )


class Started(BaseModel):
    """The task is on its way."""

    started: bool = Field(examples=[True])


class Hull(BaseModel):
    """A place that changed; further members as in the result document."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="``<task>_<hull>``.", examples=[f"{_TASK}_1"])
    score: float = Field(description="How likely this is a real change of the ground, 0 to 1.", examples=[0.97])
    area: float = Field(description="m²", examples=[312.4])
    cut_volume: float = Field(description="m³ removed, 0 or more.", examples=[12.1])
    fill_volume: float = Field(description="m³ added, 0 or more.", examples=[80.4])
    net_volume: float = Field(description="m³, fill minus cut.", examples=[68.3])
    image_key: str = Field(examples=[f"tasks/{_TASK}/out/1/hulls/1.png"])
    image_url: str = Field(
        description="Absolute link that works without headers and expires; query again for a fresh one.",
        examples=[f"http://127.0.0.1:8000/objects/tasks/{_TASK}/out/1/hulls/1.png?expires=…&sig=…"],
    )


class Results(BaseModel):
    """The result document, with links; ``error`` instead if the task failed."""

    model_config = ConfigDict(extra="allow")

    hulls: list[Hull]


class Answer(BaseModel):
    """How a task stands."""

    status: TaskState
    missing: list[str] = Field(description="Labels of the files still to be uploaded.", examples=[[]])
    results: Results | None = Field(description="Once done; with an ``error`` object on error or killed.")
    error: str | None = Field(description="Why it failed, for people.", examples=[None])


_DONE: dict[str, Any] = {
    "status": "done",
    "missing": [],
    "results": {
        "schema": "volcal/volume_change/1",
        "hulls": [
            {
                "id": f"{_TASK}_1",
                "score": 0.97,
                "area": 312.4,
                "cut_volume": 12.1,
                "fill_volume": 80.4,
                "net_volume": 68.3,
                "net_volume_ci95": [61.0, 75.6],
                "image_key": f"tasks/{_TASK}/out/1/hulls/1.png",
                "image_url": f"http://127.0.0.1:8000/objects/tasks/{_TASK}/out/1/hulls/1.png?expires=…&sig=…",
            }
        ],
    },
    "error": None,
}
_WAITING = {"status": "waiting", "missing": ["shp", "shx"], "results": None, "error": None}
_FAILED = {
    "status": "error",
    "missing": ["shx"],
    "results": {
        "hulls": [],
        "error": {
            "code": "INPUT_INVALID",
            "label": "shx",
            "message": "The file is a .shp, not its index.",
            "remedy": "Upload the .shx that lies beside the .shp.",
            "details": {},
        },
    },
    "error": "The file is a .shp, not its index. Upload the .shx that lies beside the .shp.",
}


EXAMPLES = {"done": {"value": _DONE}, "waiting": {"value": _WAITING}, "a file was refused": {"value": _FAILED}}


@router.post("/create_task", summary="Create a volume-change task")
async def create_task(context: ContextDep, opening: OpeningDep) -> Created:
    """Open a task and four uploads; it starts by itself once all four files are there, in whatever order."""
    task, tickets = await opening.run(tasks.create_task, context)
    return Created(id=str(task.id), task_id=str(task.id), upload_urls={t.label: t.url for t in tickets})


@router.post(
    "/start_task/{task_id}",
    summary="Start a task by hand",
    responses={
        **_NO_TASK,
        400: _example("Files are missing.", {"missing": ["pre", "shx"]}),
        409: _example("The task is done.", {"detail": "A task that is done cannot become pending."}),
    },
)
def start_task(task_id: str, context: ContextDep) -> Started:
    """Start a task whose files are all there; also true if it is queued or running. Runs again what failed."""
    tasks.start_task(context, read_id(task_id))
    return Started(started=True)


@router.get(
    "/query_task/{task_id}",
    summary="Ask how a task stands, and for its result",
    responses=_NO_TASK,
)
def query_task(task_id: str, work: ReadDep, context: ContextDep) -> Answer:
    """Return the state, the files still missing, and the result or the reason of failure."""
    view = tasks.describe(work, context.catalogue, read_id(task_id))
    task = view.task
    if task.state is TaskState.DONE:
        return Answer(status=task.state, missing=[], results=_results(task, context), error=None)
    if not task.state.is_settled:
        return Answer(status=task.state, missing=view.missing, results=None, error=None)
    error = task.error or {}
    words = " ".join(filter(None, [error.get("message"), error.get("remedy")]))
    failed = Results.model_validate({"hulls": [], "error": error})
    return Answer(status=task.state, missing=view.missing, results=failed, error=words or "The task failed.")


def _results(task: Task, context: Context) -> Results:
    document = task.document or {}
    files = {found["name"]: found["key"] for found in task.artifacts or []}
    links = {
        name: context.store.url(key, expires_s=context.policy.link_ttl_s)
        for name, key in files.items()
        if not name.startswith("hulls/")
    }
    hulls = [_hull(task.id, hull, files, context) for hull in document.get("hulls", [])]
    return Results.model_validate({**document, "hulls": hulls, "files": links})


def _hull(task_id: UUID, hull: dict[str, Any], files: dict[str, str], context: Context) -> dict[str, Any]:
    """Return a hull none of whose members is null, as strict clients need it."""
    # Not every hull is drawn: the overview shows it too.
    key = files.get(hull.get("image") or "") or files.get("overview.png", "")
    return {
        **{name: value for name, value in hull.items() if value is not None},
        **{name: _number(hull.get(name)) for name in _NUMBERS},
        "id": f"{task_id}_{hull.get('id', '')}",
        "image_key": key,
        "image_url": context.store.url(key, expires_s=context.policy.link_ttl_s) if key else "",
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
