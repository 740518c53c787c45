"""What the raster prediction's own routes ask: submit, look at one, look at all, its models."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.db.models import Task
from app.db.session import UnitOfWork
from app.domain.errors import TaskNotFound
from app.services import steps, tasks
from app.services.steps import StepView
from pipeline.raster_prediction import models
from pipeline.raster_prediction.models import Model

if TYPE_CHECKING:
    from app.context import Context
    from pipeline.registry import Catalogue

PIPELINE = "raster_prediction"


def submit(context: "Context", model: str, size: str | None, options: dict[str, Any]) -> Task:
    """Create a task, which is queued at once.

    Args:
        context: The application's parts.
        model: Name of a model, or of a family of which there are several sizes.
        size: Which of the sizes; None if there is but one.
        options: Those of the pipeline, without the model.

    Raises:
        ModelUnknown: If there is no such model.
        PipelineError: If the model does not fit the options.
        OptionsInvalid: If the options are none.
        TaskQuotaReached: If whoever asks has too many unfinished tasks.
    """
    found = models.find(model, context.site, size)
    return tasks.create_task(context, PIPELINE, {**options, "model": found.name})[0]


def look(work: UnitOfWork, catalogue: "Catalogue", task_id: UUID) -> tuple[Task, list[StepView]]:
    """Return a task of this pipeline, and its steps.

    Raises:
        TaskNotFound: If there is no such task, or it is one of another pipeline.
    """
    view = tasks.describe(work, catalogue, task_id)
    if view.task.pipeline != PIPELINE:
        raise TaskNotFound
    return view.task, view.steps


def recent(work: UnitOfWork, catalogue: "Catalogue", limit: int) -> list[tuple[Task, list[StepView]]]:
    """Return so many tasks of this pipeline, newest first, each with its steps."""
    found = tasks.list_tasks(work, pipeline=PIPELINE, limit=limit)
    known = steps.of_each(work, catalogue, found)
    return [(task, known[task.id]) for task in found]


def known_models(context: "Context") -> list[Model]:
    """Return every model whose manifest is good, by name."""
    return list(models.known(context.site))


def find_model(context: "Context", name: str) -> Model:
    """Return a model.

    Raises:
        ModelUnknown: If there is none of that name.
    """
    return models.find(name, context.site)
