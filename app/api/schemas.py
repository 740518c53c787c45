"""Bodies of the new surface."""

import base64
import binascii
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.context import Context
from app.db.models import Delivery, Task, Upload
from app.domain.callbacks import DeliveryState
from app.domain.errors import CursorInvalid
from app.domain.tasks import TaskState, UploadState
from app.services.queries import current
from app.services.steps import StepView
from app.services.tasks import View
from pipeline.contracts import Spec

log = logging.getLogger(__name__)

PlainText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]

_TASK = "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskIn(_Body):
    """What to run."""

    pipeline: str = Field(default="volume_change", max_length=64, description="Name of the pipeline.")
    name: PlainText = Field(default="", max_length=200, description="For people; means nothing.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the pipeline; GET /api/v1/pipelines/{name} has their schema."
    )
    inputs: dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(max_length=2048)]] = Field(
        default_factory=dict,
        description="By label, URLs of files that the service is to fetch: https, http, or s3 where that is allowed. "
        "The others are uploaded.",
        examples=[
            {"pre": "https://surveys.example.com/week-13.laz", "post": "https://surveys.example.com/week-14.laz"}
        ],
    )
    callback_url: str | None = Field(
        default=None,
        max_length=2048,
        description="Who is told by a POST when the task ends; docs/callbacks.md says how.",
        examples=["https://hooks.example.com/volcal"],
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"pipeline": "volume_change", "name": "Quarry, week 14", "options": {"min_score": 0.5}}]
        }
    )


class UploadIn(_Body):
    """The file that will be sent, or fetched."""

    filename: PlainText = Field(
        default="", max_length=255, description="Its name, for messages and to tell formats apart.", examples=["a.laz"]
    )
    url: str | None = Field(
        default=None,
        max_length=2048,
        description="Where it is, if it is to be fetched instead of sent.",
        examples=["https://surveys.example.com/week-14.laz"],
    )


class RestartIn(_Body):
    """How to run again."""

    options: dict[str, Any] | None = Field(
        default=None, description="New options; none keeps the old ones.", examples=[{"min_score": 0.8}]
    )


class ErrorOut(BaseModel):
    """Why a task or a file failed."""

    code: str = Field(examples=["INPUT_INVALID"])
    label: str | None = Field(default=None, description="The file it is about.", examples=["shp"])
    message: str = Field(description="What is wrong, for people.")
    remedy: str = Field(default="", description="What can be done about it.")
    details: dict[str, Any] = Field(default_factory=dict, description="Further facts.")


class UploadOut(BaseModel):
    """One file of a task."""

    state: UploadState
    offset: int | None = Field(
        description="Bytes that have arrived; null if that cannot be told just now.", examples=[1048576]
    )
    size: int | None = Field(description="Bytes in all, once the file is whole.")
    filename: str = ""
    url: str | None = Field(default=None, description="Where to send the bytes by tus, while the upload is open.")
    source: str | None = Field(
        default=None, description="Host that it is fetched from, if it was named by a URL.", examples=["example.org"]
    )
    length: int | None = Field(default=None, description="Bytes in all, as that host says.")
    error: ErrorOut | None = None

    @classmethod
    def of(cls, upload: Upload, context: Context) -> "UploadOut":
        """Show an upload."""
        is_open = upload.state == UploadState.OPEN
        return cls(
            state=UploadState(upload.state),
            offset=_offset(context, upload) if is_open else upload.size or 0,
            size=upload.size,
            filename=upload.filename,
            url=context.uploads.url(upload.handle) if is_open and not upload.source else None,
            source=upload.source or None,
            length=upload.length,
            error=None if upload.error is None else ErrorOut(**upload.error),
        )


def _offset(context: Context, upload: Upload) -> int | None:
    if upload.source:
        return upload.received
    try:
        return context.uploads.offset(upload.handle) or 0
    except OSError as error:  # the store is away: a task can be looked at nevertheless
        log.warning("how far an upload is cannot be told: %s", error)
        return None


class TaskSummary(BaseModel):
    """A task in a list."""

    id: UUID = Field(examples=[_TASK])
    pipeline: str = Field(examples=["volume_change"])
    name: str
    status: TaskState
    stage: str = Field(description="What the run is doing.", examples=["comparing"])
    progress: float = Field(description="Fraction done, 0 to 1.", examples=[0.4])
    eta: datetime | None = Field(description="When it is expected to be done; null while that cannot be told.")
    attempts: int = Field(description="Times that a worker took it.")
    cancelling: bool = Field(description="Whether it is being stopped.")
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None

    @classmethod
    def of_task(cls, task: Task) -> "TaskSummary":
        """Show a task."""
        return cls(**_fields(task))


class StepOut(BaseModel):
    """One step of a task."""

    name: str = Field(examples=["data-processing"])
    title: str = Field(examples=["Cut scenes into chips"])
    queue: str = Field(description="Where it waits for a worker; empty for the default queue.")
    status: TaskState
    attempts: int = Field(description="Times that a worker took it.")
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None

    @classmethod
    def of(cls, step: StepView) -> "StepOut":
        """Show a step."""
        run = step.run
        return cls(
            name=step.name,
            title=step.title,
            queue=step.queue,
            status=step.state,
            attempts=0 if run is None else run.attempts,
            started_at=None if run is None else run.started_at,
            finished_at=None if run is None else run.finished_at,
            error=None if run is None or run.error is None else ErrorOut(**run.error),
        )


class TaskOut(TaskSummary):
    """A task as clients see it."""

    options: dict[str, Any] = Field(description="Options as the pipeline reads them, defaults included.")
    queue_position: int | None = Field(description="1 for the next to be served; null if it is not queued.")
    steps: list[StepOut] = Field(description="Steps in order, of a pipeline that has several; else none.")
    missing: list[str] = Field(description="Labels of required files that have not arrived.", examples=[["shx"]])
    uploads: dict[str, UploadOut] = Field(description="By label, the upload that counts.")
    callback_host: str | None = Field(
        description="Host that is told when the task ends; the rest of its URL may be a secret.",
        examples=["hooks.example.com"],
    )

    @classmethod
    def of(cls, view: View, context: Context) -> "TaskOut":
        """Show a task and its files."""
        uploads = {label: UploadOut.of(upload, context) for label, upload in current(view.task.uploads).items()}
        return cls(
            **_fields(view.task),
            options=view.task.options,
            queue_position=view.queue_position,
            steps=[StepOut.of(step) for step in view.steps],
            missing=view.missing,
            uploads=uploads,
            callback_host=view.task.callback_url and urlsplit(view.task.callback_url).netloc,
        )


def _fields(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "pipeline": task.pipeline,
        "name": task.name,
        "status": task.state,
        "stage": task.stage,
        "progress": task.progress,
        "eta": task.eta_at if task.state is TaskState.RUNNING else None,
        "attempts": task.attempts,
        "cancelling": task.cancel_requested,
        "created_at": task.created_at,
        "queued_at": task.queued_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "error": None if task.error is None else ErrorOut(**task.error),
    }


class TaskPage(BaseModel):
    """Some tasks, newest first."""

    tasks: list[TaskSummary]
    next: str | None = Field(
        description="The ``cursor`` of the next page; null on the last.",
        examples=["MjAyNi0wNS0wMVQxMjowMDowMCswMDowMHw…"],
    )


class TicketOut(BaseModel):
    """Where to send a file."""

    label: str = Field(examples=["shp"])
    url: str | None = Field(
        description="A tus 1.0 upload of deferred length: HEAD asks for the offset, PATCH appends; null for a file "
        "that is fetched.",
        examples=["http://127.0.0.1:8000/files/2Qm0…"],
    )
    source: str | None = Field(default=None, description="Host that it is fetched from.", examples=["example.org"])


class TryOut(BaseModel):
    """One attempt at telling a receiver."""

    at: datetime
    status: int | None = Field(description="What the receiver answered; null if it did not.", examples=[503])
    error: str | None = Field(description="Why there was no answer.")
    seconds: float | None = Field(description="How long it took; null if the attempt was cut short on our side.")


class DeliveryOut(BaseModel):
    """What a receiver was told, or is to be told."""

    id: UUID = Field(description="The same for all attempts: ``X-Volcal-Delivery``.")
    task: UUID | None = Field(description="The task that it tells of; null for a ping.")
    webhook: UUID | None = Field(description="The webhook that is told; null if the task's ``callback_url`` is.")
    event: str = Field(examples=["task.done"])
    state: DeliveryState
    created_at: datetime
    due_at: datetime | None = Field(description="When it is tried next; null once it is over.")
    settled_at: datetime | None = Field(description="When it was delivered or given up.")
    attempts: list[TryOut]

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        """Show a delivery."""
        is_open = delivery.state == DeliveryState.PENDING
        return cls(
            id=delivery.id,
            task=delivery.task_id,
            webhook=delivery.webhook_id,
            event=delivery.event,
            state=DeliveryState(delivery.state),
            created_at=delivery.created_at,
            due_at=delivery.due_at if is_open else None,
            settled_at=delivery.settled_at,
            attempts=[TryOut(**attempt) for attempt in delivery.tries],
        )


class DeliveryList(BaseModel):
    """What receivers were told of a task, oldest first."""

    deliveries: list[DeliveryOut]


class ArtifactOut(BaseModel):
    """One file of the result."""

    name: str = Field(examples=["overview.png"])
    media_type: str = Field(examples=["image/png"])
    title: str = Field(examples=["Overview"])
    size: int = Field(description="Bytes.", examples=[184320])
    url: str = Field(
        description="A signed link that works without headers and expires.",
        examples=[f"http://127.0.0.1:8000/objects/tasks/{_TASK}/out/1/overview.png?expires=…&sig=…"],
    )


class ArtifactList(BaseModel):
    """The files of the result."""

    artifacts: list[ArtifactOut]


class InputOut(BaseModel):
    """A file that a pipeline asks for."""

    label: str = Field(examples=["pre"])
    title: str = Field(examples=["Reference survey"])
    formats: list[str] = Field(description="File name endings, lower case.", examples=[["las", "laz"]])
    required: bool = Field(examples=[True])


class PipelineOut(BaseModel):
    """A pipeline as clients see it."""

    name: str = Field(examples=["volume_change"])
    title: str = Field(examples=["Volume change between two surveys"])
    inputs: list[InputOut]
    options: dict[str, Any] = Field(
        description="JSON schema of the options.",
        examples=[{"type": "object", "properties": {"min_score": {"type": "number", "minimum": 0, "maximum": 1}}}],
    )

    @classmethod
    def of(cls, spec: Spec) -> "PipelineOut":
        """Show a pipeline."""
        inputs = [
            InputOut(label=slot.label, title=slot.title, formats=list(slot.formats), required=slot.required)
            for slot in spec.inputs
        ]
        return cls(name=spec.name, title=spec.title, inputs=inputs, options=spec.params.model_json_schema())


class PipelineList(BaseModel):
    """Every pipeline there is."""

    pipelines: list[PipelineOut]


def page_of(tasks: Iterable[Task], limit: int) -> TaskPage:
    """Return a page of ``limit`` tasks, given one more than that if there is a next page."""
    found = list(tasks)
    last = found[limit - 1] if len(found) > limit else None
    return TaskPage(
        tasks=[TaskSummary.of_task(task) for task in found[:limit]], next=None if last is None else to_cursor(last)
    )


def to_cursor(last: Task | Delivery) -> str:
    """Return what a client sends to see what comes after this one."""
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()}|{last.id}".encode()).decode()


def from_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the time and id in a cursor.

    Raises:
        CursorInvalid: If it was not made here.
    """
    try:
        when, _, task_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        seen = datetime.fromisoformat(when), UUID(task_id)
    except (ValueError, binascii.Error):
        raise CursorInvalid from None
    if seen[0].tzinfo is None:
        raise CursorInvalid
    return seen
