"""/api/run-model, /api/task, /api/tasks, /api/models, /api/queues/status and /api/health."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import ContextDep, ReadDep, read_id
from app.api.health import WatchDep
from app.api.problems import status_of
from app.api.rasters.schemas import (
    Component,
    Components,
    ModelOut,
    QueuesStatus,
    QueueStatus,
    RasterHealth,
    RasterSummary,
    RasterTask,
    RunModelIn,
    Submitted,
    moment,
    word_of,
)
from app.context import Context
from app.db.session import UnitOfWork
from app.domain.errors import Invalid
from app.observe import queues
from app.observe.checks import Health, told
from app.observe.queues import QueueView
from app.services import rasters
from pipeline.errors import ModelUnknown, PipelineError
from pipeline.raster_prediction import DATA, MODEL


class RasterRoute(APIRoute):
    """A route that says what a pipeline refuses in a sentence, and takes an unknown model for a bad request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (PipelineError, Invalid) as error:
                status = status_of(type(error))
                if isinstance(error, ModelUnknown):
                    status = HTTPStatus.NOT_FOUND if request.method == "GET" else HTTPStatus.BAD_REQUEST
                words = f"{error.message} {error.remedy}" if isinstance(error, PipelineError) else str(error)
                return JSONResponse({"detail": words, "code": error.code}, status_code=status)

        return answer


router = APIRouter(prefix="/api", tags=["rasters"], route_class=RasterRoute)

Answers = dict[int | str, dict[str, Any]]


def _example(description: str, detail: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": {"detail": detail}}}}


_NO_TASK: Answers = {404: _example("No such task.", "Task not found")}
_BAD_LIMIT: Answers = {422: _example("The limit is none.", "query.limit: Input should be greater than or equal to 1")}
_NO_MODEL = "There is no model 'fire'. There are: water."
_REFUSED: Answers = {
    400: _example("There is no such model.", _NO_MODEL),
    422: _example("The body is malformed, or does not fit the model.", "bboxes.0: a corner is outside the world; …"),
}


@router.post("/run-model", summary="Predict from satellite scenes", responses=_REFUSED)
def run_model(context: ContextDep, body: RunModelIn) -> Submitted:
    """Create a task that needs no files, and queue it at once: scenes are found and prepared, then the model runs.

    The same is `POST /api/v1/tasks` with the pipeline `raster_prediction`, whose tasks can be cancelled, restarted and
    followed there as all others.
    """
    task = rasters.submit(context, body.model, body.model_size, body.options())
    return Submitted(
        status=word_of(task), task_id=str(task.id), message="Task submitted. Data processing starts by itself."
    )


@router.get("/task/{task_id}", summary="Look at a prediction", responses=_NO_TASK)
def show(task_id: str, work: ReadDep, context: ContextDep) -> RasterTask:
    """Say how far a task is, stage by stage, and what each has left, with links to the files once it is completed."""
    return RasterTask.of(*rasters.look(work, context.catalogue, read_id(task_id)), context)


@router.get("/tasks", summary="List predictions", responses=_BAD_LIMIT)
def index(
    work: ReadDep,
    context: ContextDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
) -> list[RasterSummary]:
    """List tasks of this kind, newest first; older ones are at `/api/v1/tasks?pipeline=raster_prediction`."""
    return [RasterSummary.of(task, steps) for task, steps in rasters.recent(work, context.catalogue, limit)]


@router.get("/models", summary="List models")
def list_models(context: ContextDep) -> list[ModelOut]:
    """List every model that this deployment has."""
    return [ModelOut.of(model) for model in rasters.known_models(context)]


@router.get("/models/{name}", summary="Look at a model", responses={404: _example("No such model.", _NO_MODEL)})
def show_model(name: str, context: ContextDep) -> ModelOut:
    """Say what a model is made for and what it tells apart."""
    return ModelOut.of(rasters.find_model(context, name))


@router.get("/queues/status", summary="Look at the two queues")
def queues_status(work: ReadDep, context: ContextDep) -> QueuesStatus:
    """Say how many tasks wait in each of the two queues; `/api/v1/queues` has all queues, and their workers."""
    return _status(_look(work, context))


@router.get("/health", tags=["health"], summary="How the service is")
async def health(watch: WatchDep, context: ContextDep) -> RasterHealth:
    """Answer 200 whatever is wrong, and say what: `/readyz` is for machines that go by the status."""
    found = await to_thread.run_sync(watch.health, limiter=CapacityLimiter(1))
    components = await to_thread.run_sync(_components, context, found, limiter=CapacityLimiter(1))
    parts = [getattr(components, name) for name in Components.model_fields]
    return RasterHealth(
        status="healthy" if all(part.status == "healthy" for part in parts) else "unhealthy",
        timestamp=moment(datetime.now(UTC)) or "",
        version=version("volcal-server"),
        components=components,
    )


def _components(context: Context, found: Health) -> Components:
    api = _part(not found.problems, "API is running", "; ".join(found.problems))
    away = next((wrong for wrong in found.degraded if wrong.startswith("the broker")), "the broker was not asked")
    redis = _part(found.parts.get("broker", False), "The broker answers", away)
    if not found.parts.get("database", False):
        unknown = Component(status="unknown", message="The database does not answer")
        return Components(api=api, redis=redis, queues=unknown, workers=unknown)
    try:
        with context.unit_of_work(read_only=True) as work:
            views = _look(work, context)
    except SQLAlchemyError as error:
        wrong = _part(False, "", told(error))
        return Components(api=api, redis=redis, queues=wrong, workers=wrong)
    idle = [view.name for view in views.values() if not view.workers]
    workers = _part(not idle, "Workers listen to both queues", f"Nobody listens to {' and '.join(idle)}: tasks wait")
    workers.details = {name: view.workers for name, view in views.items()}
    counted = Component(status="healthy", message="Queues are accessible", details=_status(views).model_dump())
    return Components(api=api, redis=redis, queues=counted, workers=workers)


def _part(good: bool, well: str, wrong: str) -> Component:
    return Component(status="healthy" if good else "unhealthy", message=well if good else wrong)


def _look(work: UnitOfWork, context: Context) -> dict[str, QueueView]:
    views = {view.name: view for view in queues.look(work, context.catalogue)}
    return {name.replace("-", "_"): views.get(name) or QueueView(name, [], 0, 0, 0, None) for name in (DATA, MODEL)}


def _status(views: dict[str, QueueView]) -> QueuesStatus:
    return QueuesStatus.model_validate(
        {
            key: QueueStatus(name=view.name, job_count=view.pending, is_empty=view.pending == 0)
            for key, view in views.items()
        }
    )
