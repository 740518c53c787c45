"""What the use cases ask of the tables, and the changes of state that they share."""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import CursorResult, delete, func, literal, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Aged, Base, StepRun, Task, Upload
from app.db.session import UnitOfWork
from app.domain.callbacks.webhooks import Event
from app.domain.errors import TaskNotFound
from app.domain.ports import JobQueue
from app.domain.tasks import TaskState, UploadState, advance
from app.services import callbacks
from app.services.following import logbook

if TYPE_CHECKING:
    from app.context import Context
    from pipeline.contracts import Spec

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(UTC)


def get_task(work: UnitOfWork, task_id: UUID, *, lock: bool = False) -> Task:
    """Return a task with its uploads.

    Args:
        work: The transaction.
        task_id: Which task.
        lock: Whether others that want to change the task must wait until this transaction ends.

    Raises:
        TaskNotFound: If there is no such task, it was deleted, or it is not one that this unit of work sees.
    """
    query = select(Task).where(Task.id == task_id, Task.deleted_at.is_(None), *seen(work))
    if lock:  # PostgreSQL only; on SQLite the transaction itself is exclusive
        query = query.with_for_update().execution_options(populate_existing=True)
    task = work.session.execute(query).scalar_one_or_none()
    if task is None:
        raise TaskNotFound
    return task


def has_aged(work: UnitOfWork, task_id: UUID) -> bool:
    """Return whether there was such a task, which was deleted for its age; others' were never there."""
    found = work.session.get(Aged, task_id)
    return found is not None and work.owner in (None, found.owner)


def seen(work: UnitOfWork) -> list[ColumnElement[bool]]:
    """Return what a query of tasks must also ask, so that others' tasks are as if they were not."""
    return [] if work.owner is None else [Task.owner == work.owner]


def forget(context: "Context", kind: type[Base], old: ColumnElement[bool]) -> None:
    """Delete the rows of a table that are old; does not write if there is none."""
    with context.unit_of_work(read_only=True) as work:
        if work.session.execute(select(literal(1)).select_from(kind).where(old).limit(1)).first() is None:
            return
    with context.unit_of_work() as work:
        work.session.execute(delete(kind).where(old).execution_options(synchronize_session=False))
        work.commit()


def current(uploads: Iterable[Upload]) -> dict[str, Upload]:
    """Return the upload that counts for each label."""
    return {upload.label: upload for upload in uploads if upload.state != UploadState.SUPERSEDED}


def missing(labels: Sequence[str], uploads: Iterable[Upload]) -> list[str]:
    """Return the labels without a finished upload, in the pipeline's order."""
    found = current(uploads)
    return [label for label in labels if label not in found or found[label].state != UploadState.FINISHED]


def move(work: UnitOfWork, task: Task, wanted: TaskState, *where: ColumnElement[bool], **values: Any) -> bool:
    """Change a task's state if it is still what we saw; False if somebody else was faster.

    Raises:
        IllegalTransition: If the two states are not neighbours.
    """
    advance(task.state, wanted)
    before = task.state
    result = work.session.execute(
        update(Task)
        .where(Task.id == task.id, Task.state == task.state, Task.fence == task.fence, *where)
        .values(state=wanted, **values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    work.session.refresh(task)
    if result.rowcount == 1:
        work.count("task_transitions", pipeline=task.pipeline, before=before, after=wanted)
    return result.rowcount == 1


def queue_task(work: UnitOfWork, queue: JobQueue, task: Task, now: datetime, spec: "Spec | None" = None) -> bool:
    """Make a task pending and ring once that is committed; False if somebody else was faster.

    Args:
        work: The transaction; the caller commits it.
        queue: Where to ring.
        task: The task.
        now: The present, UTC.
        spec: Its pipeline, to begin with the first step; None = the step at which it is.
    """
    fresh: dict[str, Any] = {"attempts": 0} if task.state is not TaskState.RUNNING else {}
    if spec is not None:
        fresh |= {"step": 0, "queue": spec.steps[0].queue, "progress": 0.0}
        if len(spec.steps) > 1:
            work.session.execute(delete(StepRun).where(StepRun.task_id == task.id))
    elif task.step == 0:
        fresh |= {"progress": 0.0}
    queued = move(
        work,
        task,
        TaskState.PENDING,
        **fresh,
        queued_at=now,
        dispatched_at=now,
        started_at=None,
        finished_at=None,
        lease_until=None,
        worker="",
        cancel_requested=False,
        stage="",
        error=None,
        document=None,
        artifacts=None,
    )
    if queued:
        logbook.note(work, task.id, now, "Queued." if task.attempts == 0 else "Queued again.", attempt=task.attempts)
        about = {"task_id": str(task.id), "pipeline": task.pipeline, "attempts": task.attempts}
        work.after_commit(partial(log.info, "queued", extra=about))
        work.after_commit(partial(queue.submit, task.id, task.step, task.queue))
    return queued


def settle(work: UnitOfWork, task: Task, wanted: TaskState, error: dict[str, Any], now: datetime) -> bool:
    """End a task in ``error`` or ``killed``; False if somebody else was faster."""
    ended = move(work, task, wanted, error=error, finished_at=now, lease_until=None, cancel_requested=False, stage="")
    if ended:
        code = str(error.get("code", ""))
        work.count("task_failures", pipeline=task.pipeline, code=code)
        callbacks.announce(work, task.id, Event(f"task.{wanted}"), now)
        logbook.note(work, task.id, now, logbook.told(error), level="error", attempt=task.attempts)
        about = {"task_id": str(task.id), "code": code, "said": error.get("message", "")}
        work.after_commit(partial(log.info, str(wanted), extra=about))
    return ended


def queue_position(work: UnitOfWork, task: Task) -> int | None:
    """Return how many pending tasks are served before this one, itself included; None if it is not pending."""
    if task.state is not TaskState.PENDING or task.queued_at is None:
        return None
    ahead = select(func.count()).where(
        Task.state == TaskState.PENDING,
        Task.deleted_at.is_(None),
        Task.queue == task.queue,
        Task.queued_at < task.queued_at,
    )
    return work.session.execute(ahead).scalar_one() + 1
