"""Tasks at /api/v1/tasks: list, upload to, start, cancel, restart, delete, and fetch the result.

Beside them, at /api/v1/pipelines, what tasks can be created for.
"""

from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.api.deps import ContextDep, OpeningDep, ReadDep, WorkDep
from app.api.problems import examples
from app.api.schemas import (
    DeliveryList,
    DeliveryOut,
    PipelineList,
    PipelineOut,
    RestartIn,
    TaskOut,
    TaskPage,
    TicketOut,
    UploadIn,
    from_cursor,
    page_of,
)
from app.api.tasks.looking import show_task
from app.domain import errors
from app.domain.tasks import TaskState
from app.services import callbacks, queries, tasks, uploads
from app.services.intake import inputs

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])
pipelines = APIRouter(prefix="/api/v1/pipelines", tags=["pipelines"])

_NO_TASK = errors.TaskNotFound()
_NO_PIPELINE = errors.PipelineNotFound("x", ["constant", "volume_change"])
_BAD_OPTIONS = errors.OptionsInvalid([{"field": "cell", "message": "Input should be greater than 0"}])
_ACTIVE = errors.IllegalTransition(TaskState.RUNNING, TaskState.PENDING)
_OVER = errors.IllegalTransition(TaskState.DONE, TaskState.KILLED)
_MISSING = errors.InputsMissing(["shp", "shx"])


@router.get("", summary="List tasks", responses=examples(_NO_PIPELINE, errors.CursorInvalid()))
def index(
    work: ReadDep,
    context: ContextDep,
    status: Annotated[TaskState | None, Query(description="Only tasks in this state.")] = None,
    pipeline: Annotated[str | None, Query(description="Only tasks of this pipeline.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
    cursor: Annotated[str | None, Query(description="``next`` of the page before.")] = None,
) -> TaskPage:
    """List tasks, newest first, a page at a time."""
    if pipeline is not None:
        tasks.find_spec(context.catalogue, pipeline)
    before = None if cursor is None else from_cursor(cursor)
    found = tasks.list_tasks(work, status=status, pipeline=pipeline, before=before, limit=limit + 1)
    return page_of(found, limit)


@router.post(
    "/{task_id}/uploads/{label}",
    status_code=HTTPStatus.CREATED,
    summary="Get a fresh upload URL",
    responses={
        **examples(
            _NO_TASK,
            errors.LabelUnknown("x", ["pre", "post"]),
            errors.UploadClosed("The task is done and takes no files."),
            errors.UrlRefused("address"),
        ),
        202: {"model": TicketOut, "description": "The file is being fetched."},
    },
)
async def open_upload(
    task_id: UUID,
    label: str,
    context: ContextDep,
    opening: OpeningDep,
    response: Response,
    body: UploadIn | None = None,
) -> TicketOut:
    """Open a fresh upload; what was sent for this label before no longer counts.

    A task that ended in ``error`` waits again. Optional files (``dbf``, ``prj``) are uploaded this way too. With a
    ``url`` the file is fetched from there instead, and the answer is 202.
    """
    wanted = body or UploadIn()
    if wanted.url is not None:
        host = await opening.run(inputs.fetch_input, context, task_id, label, wanted.url, wanted.filename)
        response.status_code = HTTPStatus.ACCEPTED
        return TicketOut(label=label, url=None, source=host)
    ticket = await opening.run(uploads.open_upload, context, task_id, label, wanted.filename)
    return TicketOut(label=ticket.label, url=ticket.url)


@router.post(
    "/{task_id}/start",
    status_code=HTTPStatus.ACCEPTED,
    summary="Start a task",
    responses=examples(_NO_TASK, _MISSING, errors.IllegalTransition(TaskState.DONE, TaskState.PENDING)),
)
def start(task_id: UUID, context: ContextDep) -> TaskOut:
    """Start a task whose files are all there; usually it has started by itself. Run again what failed."""
    tasks.start_task(context, task_id)
    return show_task(context, task_id)


@router.post(
    "/{task_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Cancel a task", responses=examples(_NO_TASK, _OVER)
)
def cancel(task_id: UUID, work: WorkDep, context: ContextDep) -> TaskOut:
    """Stop a task; a run ends within seconds, and the task is ``killed`` then. Asking twice is harmless."""
    tasks.cancel_task(work, task_id)
    work.after_commit(partial(uploads.stop_open, context, task_id))
    return TaskOut.of(tasks.describe(work, context.catalogue, task_id), context)


@router.post(
    "/{task_id}/restart",
    status_code=HTTPStatus.ACCEPTED,
    summary="Run a task again",
    responses=examples(_NO_TASK, _ACTIVE, _MISSING, _BAD_OPTIONS),
)
def restart(task_id: UUID, context: ContextDep, body: RestartIn | None = None) -> TaskOut:
    """Run a task again that failed or was killed, with other options if some are given."""
    tasks.restart(context, task_id, (body or RestartIn()).options)
    return show_task(context, task_id)


@router.delete("/{task_id}", status_code=HTTPStatus.NO_CONTENT, summary="Delete a task", responses=examples(_NO_TASK))
def delete(task_id: UUID, context: ContextDep) -> None:
    """Stop the task if it runs, and delete it with all of its files."""
    tasks.delete_task(context, task_id)


@router.get("/{task_id}/deliveries", summary="List the callbacks", responses=examples(_NO_TASK))
def deliveries(task_id: UUID, work: ReadDep) -> DeliveryList:
    """List what was told of the task, or is to be, with each attempt: at its ``callback_url``, and by webhooks."""
    queries.get_task(work, task_id)
    return DeliveryList(deliveries=[DeliveryOut.of(found) for found in callbacks.of_task(work, task_id)])


@pipelines.get("", summary="List pipelines")
def list_pipelines(context: ContextDep) -> PipelineList:
    """List every pipeline with its inputs and the JSON schema of its options."""
    return PipelineList(pipelines=[PipelineOut.of(spec) for spec in context.catalogue.values()])


@pipelines.get("/{name}", summary="Look at a pipeline", responses=examples(_NO_PIPELINE))
def show_pipeline(name: str, context: ContextDep) -> PipelineOut:
    """Show a pipeline's inputs and the JSON schema of its options."""
    return PipelineOut.of(tasks.find_spec(context.catalogue, name))
