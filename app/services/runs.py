"""What a worker may do to a task: every step is a compare-and-set on (id, state, fence).

A worker holds a task by a lease. The fence grows with each lease, so whoever lost the lease, however late it
wakes up, changes nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, case, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Task, Upload
from app.db.session import UnitOfWork
from app.domain import failures
from app.domain.callbacks.webhooks import Event
from app.domain.ports import JobQueue
from app.domain.tasks import TaskState, UploadState
from app.services import callbacks
from app.services.following import logbook
from app.services.following.logbook import Line

_MOST_WARNINGS = 50  # of a result, in the log; the document has all of them


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one task, and all that a run needs to know.

    Args:
        inputs: By label: the object's key and the file name that the user gave, which may be empty.
        step: Which of the pipeline's steps is due.
    """

    task_id: UUID
    fence: int
    attempt: int
    pipeline: str
    options: dict[str, Any]
    inputs: dict[str, tuple[str, str]]
    step: int = 0


class Verdict(StrEnum):
    """What the holder of a lease must do next."""

    CONTINUE = "continue"
    CANCEL = "cancel"  # the user wants it stopped: end the run, then ``kill``
    LOST = "lost"  # the lease is somebody else's, or the task is gone: end the run and write nothing


def acquire(
    work: UnitOfWork, task_id: UUID, *, worker: str, now: datetime, lease_s: float, step: int = 0
) -> Lease | None:
    """Take a pending task; None if it is not pending, which is how a second doorbell does no harm.

    Args:
        work: The transaction; the caller commits it.
        task_id: Which task.
        worker: Who takes it, for people to read.
        now: The present, UTC.
        lease_s: Seconds until the lease runs out unless a heartbeat renews it.
        step: The one that the doorbell was rung for; a task that is at another one waits elsewhere.
    """
    taken = _write(
        work,
        [Task.id == task_id, Task.state == TaskState.PENDING, Task.step == step, Task.deleted_at.is_(None)],
        state=TaskState.RUNNING,
        fence=Task.fence + 1,
        attempts=Task.attempts + 1,
        lease_until=now + timedelta(seconds=lease_s),
        worker=worker[:128],
        started_at=case((Task.step > 0, func.coalesce(Task.started_at, now)), else_=now),
        finished_at=None,
        stage="",
        progress=case((Task.step > 0, Task.progress), else_=0.0),
        eta_at=None,
    )
    if not taken:
        return None
    task = work.session.execute(select(Task).where(Task.id == task_id)).scalar_one()
    work.count("task_transitions", pipeline=task.pipeline, before=TaskState.PENDING, after=TaskState.RUNNING)
    if task.queued_at is not None:
        work.observe("queue_seconds", max(0.0, (now - task.queued_at).total_seconds()), pipeline=task.pipeline)
    logbook.note(work, task_id, now, "A worker has taken it.", attempt=task.attempts)
    if step == 0:
        callbacks.announce(work, task_id, Event.STARTED, now)
    files = work.session.execute(
        select(Upload.label, Upload.key, Upload.filename).where(
            Upload.task_id == task_id, Upload.state == UploadState.FINISHED
        )
    )
    return Lease(
        task_id=task.id,
        fence=task.fence,
        attempt=task.attempts,
        pipeline=task.pipeline,
        options=task.options,
        inputs={label: (key, filename) for label, key, filename in files},
        step=task.step,
    )


def heartbeat(
    work: UnitOfWork,
    lease: Lease,
    *,
    progress: float,
    stage: str,
    now: datetime,
    lease_s: float,
    eta_at: datetime | None = None,
) -> Verdict:
    """Say that the run lives and how far it is, and learn what to do next.

    Args:
        work: The transaction; the caller commits it.
        lease: What ``acquire`` gave.
        progress: Fraction done, 0 to 1; within one run it never falls.
        stage: What the run is doing.
        now: The present, UTC.
        lease_s: Seconds until the lease runs out unless the next heartbeat renews it.
        eta_at: When the run is expected to be done; None if that cannot be said.
    """
    reached = min(progress, 1.0) if progress >= 0 else 0.0  # NaN compares false
    held = _write(
        work,
        _held(lease),
        lease_until=now + timedelta(seconds=lease_s),
        progress=case((Task.progress < reached, reached), else_=Task.progress),
        stage=logbook.plain(stage)[:64],
        eta_at=eta_at,
    )
    if not held:
        return Verdict.LOST
    wanted = work.session.execute(select(Task.cancel_requested).where(Task.id == lease.task_id)).scalar_one()
    return Verdict.CANCEL if wanted else Verdict.CONTINUE


def tell(work: UnitOfWork, lease: Lease, lines: Sequence[Line]) -> bool:
    """Add a run's own lines to its task's log; False, and nothing is added, if the lease is lost."""
    return logbook.write(work, lease.task_id, lines, *_held(lease))


def finish(
    work: UnitOfWork, lease: Lease, *, document: dict[str, Any], artifacts: list[dict[str, Any]], now: datetime
) -> bool:
    """Record the result; False if it does not count, so that its files are to be deleted.

    A task whose cancelling was promised while its last step ran ends killed, not done.

    Args:
        work: The transaction; the caller commits it.
        lease: What ``acquire`` gave.
        document: The result document.
        artifacts: For each file ``name``, ``media_type``, ``title``, ``key`` and ``size`` in bytes.
        now: The present, UTC.

    Raises:
        ValueError: If the document holds NaN or Infinity, which JSON cannot say.
    """
    check_json(document, artifacts)
    done = _write(
        work,
        [*_held(lease), Task.cancel_requested.is_(False)],
        **_ended(TaskState.DONE, now),
        document=document,
        artifacts=artifacts,
        error=None,
        progress=1.0,
        stage="",
    )
    if done:
        warnings = _warnings(document.get("warnings"), lease, now)
        logbook.write(work, lease.task_id, [*warnings, Line(now, "Done.", attempt=lease.attempt)])
        _count(work, lease, TaskState.DONE, now)
    else:
        kill(work, lease, error=failures.cancelled(), now=now)
    return done


def check_json(document: dict[str, Any], artifacts: list[dict[str, Any]]) -> None:
    """Refuse what JSON cannot say.

    Raises:
        ValueError: If there is NaN or Infinity.
    """
    json.dumps([document, artifacts], allow_nan=False)


def fail(work: UnitOfWork, lease: Lease, *, error: dict[str, Any], now: datetime) -> bool:
    """Record that the pipeline refused or failed; False if the lease is lost."""
    kept = _write(work, _held(lease), **_ended(TaskState.ERROR, now), error=failures.plain(error))
    return kept and _count(work, lease, TaskState.ERROR, now, error)


def kill(work: UnitOfWork, lease: Lease, *, error: dict[str, Any], now: datetime) -> bool:
    """Record that the run was ended from outside, such as by cancelling; False if the lease is lost."""
    kept = _write(work, _held(lease), **_ended(TaskState.KILLED, now), error=failures.plain(error))
    return kept and _count(work, lease, TaskState.KILLED, now, error)


def release(work: UnitOfWork, lease: Lease, now: datetime) -> bool:
    """Give the task back unharmed, as a worker does that is asked to stop: no attempt is used up."""
    kept = _write(
        work,
        _held(lease),
        state=TaskState.PENDING,
        attempts=Task.attempts - 1,
        lease_until=None,
        worker="",
        queued_at=now,
        dispatched_at=None,  # the janitor rings at once
        stage="",
        progress=case((Task.step > 0, Task.progress), else_=0.0),
    )
    if kept:
        said = "The worker was asked to stop and gave it back: it is queued again."
        logbook.note(work, lease.task_id, now, said, attempt=lease.attempt)
    return kept and _count(work, lease, TaskState.PENDING, now)


def hand_on(work: UnitOfWork, lease: Lease, *, queue: JobQueue, where: str, progress: float, now: datetime) -> bool:
    """Make the next step of a task pending, and ring for it once that is committed; False if it does not count.

    Args:
        work: The transaction; the caller commits it.
        lease: What ``acquire`` gave.
        queue: Where to ring.
        where: The queue in which the next step waits.
        progress: How far the task is now, 0 to 1.
        now: The present, UTC.
    """
    kept = _write(
        work,
        [*_held(lease), Task.cancel_requested.is_(False)],
        state=TaskState.PENDING,
        step=lease.step + 1,
        queue=where,
        attempts=0,
        lease_until=None,
        worker="",
        queued_at=now,
        dispatched_at=now,
        stage="",
        progress=progress,
    )
    if not kept:
        kill(work, lease, error=failures.cancelled(), now=now)
        return False
    said = f"Step {lease.step + 1} is done; the next one is queued."
    logbook.note(work, lease.task_id, now, said, attempt=lease.attempt)
    work.after_commit(partial(queue.submit, lease.task_id, lease.step + 1, where))
    return _count(work, lease, TaskState.PENDING, now)


def _warnings(found: Any, lease: Lease, now: datetime) -> Iterable[Line]:
    for warning in found[:_MOST_WARNINGS] if isinstance(found, list) else ():
        if isinstance(warning, dict):
            yield Line(now, logbook.told(warning), "warning", attempt=lease.attempt)


def _held(lease: Lease) -> list[ColumnElement[bool]]:
    return [Task.id == lease.task_id, Task.state == TaskState.RUNNING, Task.fence == lease.fence]


def _count(
    work: UnitOfWork, lease: Lease, after: TaskState, now: datetime, error: dict[str, Any] | None = None
) -> bool:
    """Count a change that was made, and see to it that whoever waits for the task's end is told."""
    work.count("task_transitions", pipeline=lease.pipeline, before=TaskState.RUNNING, after=after)
    if error is not None:
        work.count("task_failures", pipeline=lease.pipeline, code=str(error.get("code", "")))
        logbook.note(work, lease.task_id, now, logbook.told(error), level="error", attempt=lease.attempt)
    if after.is_settled:
        callbacks.announce(work, lease.task_id, Event(f"task.{after}"), now)
    return True


def _ended(state: TaskState, now: datetime) -> dict[str, Any]:
    return {"state": state, "finished_at": now, "lease_until": None, "cancel_requested": False}


def _write(work: UnitOfWork, where: list[ColumnElement[bool]], **values: Any) -> bool:
    result = work.session.execute(
        update(Task).where(*where).values(**values).execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    return result.rowcount == 1
