"""The steps of a task whose pipeline has several: what each did, and what it hands on to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select

from app.db.models import StepRun, Task
from app.db.session import UnitOfWork
from app.domain.tasks import TaskState
from app.services import runs
from app.services.runs import Lease

if TYPE_CHECKING:
    from app.domain.ports import JobQueue
    from pipeline.contracts import Step
    from pipeline.registry import Catalogue


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as somebody looks at it.

    Args:
        state: In the words of tasks: pending, running, done, error or killed.
        run: What was recorded of it; None if it has not begun.
    """

    name: str
    title: str
    queue: str
    state: TaskState
    run: StepRun | None


@dataclass(frozen=True, slots=True)
class Handed:
    """What the step before left for this one.

    Args:
        document: Its document.
        artifacts: Its files: ``name``, ``media_type``, ``title``, ``key`` and ``size`` each.
    """

    document: dict[str, Any]
    artifacts: list[dict[str, Any]]


def begin(work: UnitOfWork, lease: Lease, now: datetime) -> Handed | None:
    """Record that a step was taken; return what the one before left, None for the first.

    Args:
        work: The transaction that took the lease; the caller commits it.
        lease: What ``acquire`` gave.
        now: The present, UTC.
    """
    own = work.session.get(StepRun, (lease.task_id, lease.step))
    if own is None:
        own = StepRun(task_id=lease.task_id, number=lease.step, started_at=now)
        work.session.add(own)
    own.attempts, own.finished_at, own.error = lease.attempt, None, None
    before = work.session.get(StepRun, (lease.task_id, lease.step - 1)) if lease.step else None
    work.session.flush()
    return None if before is None else Handed(before.document or {}, before.artifacts or [])


def hand_on(
    work: UnitOfWork,
    lease: Lease,
    steps: Sequence["Step"],
    *,
    queue: "JobQueue",
    document: dict[str, Any],
    artifacts: list[dict[str, Any]],
    now: datetime,
) -> bool:
    """Record what a step left and make the next one pending, in one transaction; False if it does not count.

    Args:
        work: The transaction; the caller commits it.
        lease: What ``acquire`` gave.
        steps: Of the pipeline, in order.
        queue: Where to ring for the next step.
        document: What the step says to the next.
        artifacts: Its files: ``name``, ``media_type``, ``title``, ``key`` and ``size`` in bytes each.
        now: The present, UTC.

    Raises:
        ValueError: If the document holds NaN or Infinity, which JSON cannot say.
    """
    runs.check_json(document, artifacts)
    following = lease.step + 1
    done = following / len(steps)
    kept = runs.hand_on(work, lease, queue=queue, where=steps[following].queue, progress=done, now=now)
    if kept:
        end(work, lease, now, document=document, artifacts=artifacts)
    return kept


def end(work: UnitOfWork, lease: Lease, now: datetime, **values: Any) -> None:
    """Record how a step ended: its ``document`` and ``artifacts``, or its ``error``."""
    own = work.session.get(StepRun, (lease.task_id, lease.step))
    if own is not None:
        own.finished_at = now
        for name, value in values.items():
            setattr(own, name, value)
        work.session.flush()


def of(work: UnitOfWork, catalogue: "Catalogue", task: Task) -> list[StepView]:
    """Return the steps of a task, in order; none if its pipeline has but one, which is the task itself."""
    return of_each(work, catalogue, [task])[task.id]


def of_each(work: UnitOfWork, catalogue: "Catalogue", tasks: Sequence[Task]) -> dict[UUID, list[StepView]]:
    """Return the steps of several tasks, by their ids, with one look at the table."""
    several = {task.id: spec for task in tasks if (spec := catalogue.get(task.pipeline)) and len(spec.steps) > 1}
    known: dict[tuple[UUID, int], StepRun] = {}
    if several:
        found = work.session.execute(select(StepRun).where(StepRun.task_id.in_(several))).scalars()
        known = {(run.task_id, run.number): run for run in found}
    return {
        task.id: [
            StepView(step.name, step.title, step.queue, _state(task, number), known.get((task.id, number)))
            for number, step in enumerate(several[task.id].steps if task.id in several else ())
        ]
        for task in tasks
    }


def _state(task: Task, number: int) -> TaskState:
    if number < task.step:
        return TaskState.DONE
    if number > task.step or task.state is TaskState.WAITING:
        return TaskState.PENDING
    return task.state
