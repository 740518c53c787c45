"""Bodies of the raster prediction's own routes, and the words in which they tell states."""

import datetime as dt
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.context import Context
from app.db.models import Task
from app.domain.tasks import TaskState
from app.services.steps import StepView
from pipeline.raster_prediction import DATA, MODEL
from pipeline.raster_prediction.models import Model

TASK = "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11"

Status = Literal["data_processing", "model_prediction", "completed", "failed"]
StageStatus = Literal["pending", "running", "completed", "failed"]

_STAGE: dict[TaskState, StageStatus] = {
    TaskState.WAITING: "pending",
    TaskState.PENDING: "pending",
    TaskState.RUNNING: "running",
    TaskState.DONE: "completed",
    TaskState.ERROR: "failed",
    TaskState.KILLED: "failed",
}
# the names that clients use for options of the pipeline
_NAMES = {"model": "model_type", "source": "data_source"}


class RunModelIn(BaseModel):
    """What to predict, by `model_type`, or by `model_key` and `model_size`; what is left out is as the model wants."""

    bboxes: list[list[float]] = Field(
        min_length=1, max_length=32, description="West, south, east, north each, degrees (WGS 84)."
    )
    model_type: str | None = Field(default=None, min_length=1, max_length=64, description="Name or family of a model.")
    model_key: str | None = Field(default=None, min_length=1, max_length=64, description="The same, newer.")
    model_size: str | None = Field(default=None, min_length=1, max_length=64, description="Which of a family.")
    date: dt.date = Field(description="The day of the last time step.")
    chip_size: int | None = Field(default=None, description="Edge of a chip, cells.")
    cloud_coverage: float | None = Field(default=None, description="Percent of clouds up to which scenes are used.")
    num_steps: int | None = Field(default=None, description="Time steps.")
    data_source: str | None = Field(default=None, max_length=64, description="Such as HLS or S2.")
    temporal_step: int | None = Field(default=None, description="Days from one time step to the next.")
    temporal_tolerance: int | None = Field(default=None, description="Days around a time step's day.")
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "bboxes": [[15.0, 47.0, 15.02, 47.015]],
                    "model_type": "water",
                    "date": "2024-06-10",
                    "cloud_coverage": 30,
                    "temporal_tolerance": 5,
                },
                {
                    "bboxes": [[15.0, 47.0, 15.02, 47.015]],
                    "model_key": "water",
                    "model_size": "tiny",
                    "date": "2024-06-10",
                    "cloud_coverage": 30,
                    "temporal_tolerance": 5,
                },
            ]
        },
    )

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if (self.model_type is None) == (self.model_key is None):
            raise ValueError("give either model_type, or model_key and model_size")
        return self

    @property
    def model(self) -> str:
        """The model's name or family."""
        return self.model_key or self.model_type or ""

    def options(self) -> dict[str, Any]:
        """Return what was said of the pipeline's options."""
        told = {
            "bboxes": self.bboxes,
            "date": self.date,
            "chip_size": self.chip_size,
            "cloud_coverage": self.cloud_coverage,
            "num_steps": self.num_steps,
            "source": self.data_source,
            "temporal_step": self.temporal_step,
            "temporal_tolerance": self.temporal_tolerance,
        }
        return {name: value for name, value in told.items() if value is not None}


class Submitted(BaseModel):
    """The task is on its way."""

    status: Status = Field(examples=["data_processing"])
    task_id: str = Field(examples=[TASK])
    message: str = Field(examples=["Task submitted. Data processing starts by itself."])


class Stage(BaseModel):
    """One stage of a task."""

    status: StageStatus
    started_at: str | None = Field(examples=["2026-05-01T12:00:01Z"])
    completed_at: str | None = Field(examples=["2026-05-01T12:00:09Z"])
    result: dict[str, Any] | None = Field(
        description="What it left, once it is completed.", examples=[{"schema": "volcal/raster_chips/1", "chips": 12}]
    )
    error: str | None = Field(description="Why it failed, for people.", examples=[None])


class Stages(BaseModel):
    """The stages; the last is done together with the prediction."""

    data_processing: Stage
    model_prediction: Stage
    visualization_preparation: Stage
    model_config = ConfigDict(protected_namespaces=())


class _Told(BaseModel):
    task_id: str = Field(examples=[TASK])
    status: Status
    created_at: str = Field(examples=["2026-05-01T12:00:00Z"])
    bboxes: list[list[float]] = Field(examples=[[[15.0, 47.0, 15.02, 47.015]]])
    parameters: dict[str, Any] = Field(
        description="Everything else that was asked for, defaults included.",
        examples=[{"model_type": "water", "date": "2024-06-10", "temporal_tolerance": 5}],
    )
    stages: Stages


class RasterTask(_Told):
    """A task."""

    data_processing_job_id: str | None = Field(examples=[f"{TASK}:{DATA}"])
    model_prediction_job_id: str | None = Field(description="Once its stage is queued.", examples=[f"{TASK}:{MODEL}"])
    model_config = ConfigDict(protected_namespaces=())

    @classmethod
    def of(cls, task: Task, steps: list[StepView], context: Context) -> "RasterTask":
        """Show a task."""
        return cls(
            **_told(task, steps, context),
            data_processing_job_id=f"{task.id}:{DATA}",
            model_prediction_job_id=f"{task.id}:{MODEL}" if task.step > 0 else None,
        )


class RasterSummary(_Told):
    """A task in the list."""

    bboxes_count: int = Field(examples=[1])
    model_type: str = Field(examples=["water"])
    model_config = ConfigDict(protected_namespaces=())

    @classmethod
    def of(cls, task: Task, steps: list[StepView]) -> "RasterSummary":
        """Show a task, without what its stages left."""
        told = _told(task, steps, None)
        return cls(**told, bboxes_count=len(told["bboxes"]), model_type=str(task.options.get("model", "")))


def _told(task: Task, steps: list[StepView], context: Context | None) -> dict[str, Any]:
    options = dict(task.options)
    bboxes = options.pop("bboxes", [])
    return {
        "task_id": str(task.id),
        "status": word_of(task),
        "created_at": moment(task.created_at),
        "bboxes": bboxes,
        "parameters": {_NAMES.get(name, name): value for name, value in options.items()},
        "stages": _stages(task, steps, context),
    }


def word_of(task: Task) -> Status:
    """Return a task's state in these clients' words."""
    match task.state:
        case TaskState.DONE:
            return "completed"
        case TaskState.ERROR | TaskState.KILLED:
            return "failed"
        case _:
            return "data_processing" if task.step == 0 else "model_prediction"


def moment(when: datetime | None) -> str | None:
    """Return an instant as these clients read it."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _stages(task: Task, steps: list[StepView], context: Context | None) -> Stages:
    data, model = (_stage(task, step, number) for number, step in enumerate(steps))
    shown = model.model_copy()
    if context is not None and task.state is TaskState.DONE:
        links = {
            found["name"]: context.store.url(found["key"], expires_s=context.policy.link_ttl_s)
            for found in task.artifacts or []
        }
        model.result = {**(task.document or {}), "files": links}
        shown.result = {"files": {name: url for name, url in links.items() if name.endswith((".tif", ".png"))}}
    if context is not None and data.status == "completed" and steps[0].run is not None:
        data.result = steps[0].run.document
    return Stages(data_processing=data, model_prediction=model, visualization_preparation=shown)


def _stage(task: Task, step: StepView, number: int) -> Stage:
    run = step.run
    failed = number == task.step and task.state in (TaskState.ERROR, TaskState.KILLED)
    error = task.error if failed else None
    return Stage(
        status=_STAGE[step.state],
        started_at=None if run is None else moment(run.started_at),
        completed_at=moment((run and run.finished_at) or (task.finished_at if failed else None)),
        result=None,
        error=f"{error['message']} {error.get('remedy', '')}".strip() if error else None,
    )


class QueueStatus(BaseModel):
    """A queue."""

    name: str = Field(examples=[DATA])
    job_count: int = Field(description="Tasks that wait in it, everybody's.", examples=[0])
    is_empty: bool


class QueuesStatus(BaseModel):
    """The two queues."""

    data_processing: QueueStatus
    model_prediction: QueueStatus
    model_config = ConfigDict(protected_namespaces=())


class Component(BaseModel):
    """One part of the service."""

    status: Literal["healthy", "unhealthy", "unknown"]
    message: str = Field(examples=["The broker answers"])
    details: dict[str, Any] = Field(default_factory=dict)


class Components(BaseModel):
    """The parts that these clients know."""

    api: Component
    redis: Component = Field(description="The broker, whichever it is.")
    queues: Component
    workers: Component


class RasterHealth(BaseModel):
    """How the service is."""

    status: Literal["healthy", "unhealthy"]
    timestamp: str = Field(examples=["2026-05-01T12:00:00Z"])
    version: str = Field(examples=["0.1.0"])
    components: Components


class ModelOut(BaseModel):
    """A model."""

    model_key: str = Field(examples=["water"])
    model_size: str = Field(examples=["tiny"])
    model_name: str = Field(description="What tasks call it.", examples=["water-tiny"])
    title: str = Field(examples=["Open water"])
    version: str = Field(examples=["1"])
    data_source: str = Field(examples=["HLS"])
    bands: list[str] = Field(examples=[["red", "nir"]])
    resolution: float = Field(description="Metres.", examples=[30.0])
    chip_size: int = Field(examples=[224])
    num_steps: int = Field(examples=[1])
    temporal_step: int = Field(description="Days.", examples=[30])
    output: str = Field(examples=["logits"])
    classes_mapping: dict[str, str] = Field(
        description="Names of the classes by their values.", examples=[{"0": "land", "1": "water"}]
    )
    note: str = Field(examples=["Made for lakes."])
    model_config = ConfigDict(protected_namespaces=())

    @classmethod
    def of(cls, model: Model) -> "ModelOut":
        """Show a model."""
        return cls(
            model_key=model.family,
            model_size=model.size,
            model_name=model.name,
            title=model.title,
            version=model.version,
            data_source=model.source,
            bands=list(model.bands),
            resolution=model.resolution,
            chip_size=model.chip_size,
            num_steps=model.time_steps,
            temporal_step=model.temporal_step,
            output=model.output,
            classes_mapping={str(value): each.name for value, each in enumerate(model.classes)},
            note=model.note,
        )
