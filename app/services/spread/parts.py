"""Who does which part of a task: every step is a compare-and-set, as for tasks.

The worker that runs a task is its lead. It writes down the parts under the fence of its lease, does what nobody else
has begun, and gathers what the others left. A helper holds a part by a lease of its own; the count of attempts is that
lease's fence. When the lead's lease is lost, its parts are void: the next lead has another fence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, delete, exists, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Task, TaskPart, Upload
from app.db.session import UnitOfWork
from app.domain.tasks import TaskState, UploadState
from app.services.runs import Lease


class PartState(StrEnum):
    """Where a part stands."""

    OPEN = "open"
    TAKEN = "taken"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Hold:
    """A helper's right to do one part.

    Args:
        fence: Of the lead's lease.
        attempt: Which try it is, from 1; the lead's own are not counted.
        job: ``function``, ``arguments``, ``inputs`` (labels) and ``files`` (the key of each name).
        inputs: Key of each input by label.
    """

    task_id: UUID
    fence: int
    number: int
    attempt: int
    job: dict[str, Any]
    inputs: dict[str, str]


def announce(work: UnitOfWork, lease: Lease, first: int, jobs: Iterable[dict[str, Any]]) -> None:
    """Write down parts that anybody may do.

    Args:
        work: The transaction; the caller commits it.
        lease: The lead's.
        first: Number of the first; numbers of one lease go on.
        jobs: As in ``Hold``.
    """
    for number, job in enumerate(jobs, start=first):
        work.session.add(
            TaskPart(task_id=lease.task_id, fence=lease.fence, number=number, state=PartState.OPEN, job=job)
        )
    work.session.flush()


def claim(
    work: UnitOfWork, task_id: UUID, fence: int, *, worker: str, now: datetime, lease_s: float, attempts: int
) -> Hold | None:
    """Take the first part that nobody does, as a helper; None if there is none, or the lead is no longer the lead.

    Args:
        work: The transaction; the caller commits it.
        task_id: Of which task.
        fence: Of the lead's lease.
        worker: Who takes it, for people to read.
        now: The present, UTC.
        lease_s: Seconds until the lease runs out unless a beat renews it.
        attempts: Of helpers at one part; after these only the lead may do it.
    """
    free = [*_free(now), TaskPart.attempts < attempts, _wanted(task_id, fence)]
    number = _first(work, task_id, fence, free)
    while number is not None:
        until = now + timedelta(seconds=lease_s)
        taken = {"state": PartState.TAKEN, "attempts": TaskPart.attempts + 1, "lease_until": until, "worker": worker}
        if _write(work, task_id, fence, number, free, **taken):
            part = work.session.get(TaskPart, (task_id, fence, number), populate_existing=True)
            assert part is not None  # noqa: S101  (narrowing: it was written just now)
            return Hold(task_id, fence, number, part.attempts, part.job, _inputs(work, task_id))
        number = _first(work, task_id, fence, free)
    return None


def take(work: UnitOfWork, lease: Lease, last: int, now: datetime) -> int | None:
    """Take the first part that nobody does, as the lead, for as long as it lives; None if all are done or begun.

    Args:
        work: The transaction; the caller commits it.
        lease: The lead's.
        last: Highest number that is asked for.
        now: The present, UTC.
    """
    free = [*_free(now), TaskPart.number <= last]
    number = _first(work, lease.task_id, lease.fence, free)
    while number is not None:
        values = {"state": PartState.TAKEN, "lease_until": None, "worker": ""}
        if _write(work, lease.task_id, lease.fence, number, free, **values):
            return number
        number = _first(work, lease.task_id, lease.fence, free)
    return None


def beat(work: UnitOfWork, hold: Hold, *, now: datetime, lease_s: float) -> bool:
    """Say that a helper lives; False if nobody wants its part any more."""
    until = now + timedelta(seconds=lease_s)
    return _write(
        work,
        hold.task_id,
        hold.fence,
        hold.number,
        [*_held(hold), _wanted(hold.task_id, hold.fence)],
        lease_until=until,
    )


def finish(work: UnitOfWork, hold: Hold, result: Any, files: dict[str, str]) -> bool:
    """Record what a helper left, ``files`` by name the key of each; False if the part is somebody else's now."""
    values: dict[str, Any] = {"state": PartState.DONE, "lease_until": None, "left": {"result": result, "files": files}}
    return _write(work, hold.task_id, hold.fence, hold.number, _held(hold), **values)


def give_back(work: UnitOfWork, hold: Hold, *, attempts: int | None = None) -> bool:
    """Let others do a part; with ``attempts`` as for ``claim`` only the lead may, since it failed here."""
    values: dict[str, Any] = {"state": PartState.OPEN, "lease_until": None, "worker": ""}
    if attempts is not None:
        values["attempts"] = attempts
    return _write(work, hold.task_id, hold.fence, hold.number, _held(hold), **values)


def left(work: UnitOfWork, lease: Lease, number: int) -> dict[str, Any] | None:
    """Return what a helper left of a part, ``result`` and ``files``; None if it is not done."""
    query = select(TaskPart.left).where(*_is(lease.task_id, lease.fence, number), TaskPart.state == PartState.DONE)
    return work.session.execute(query).scalar_one_or_none()


def is_free(work: UnitOfWork, task_id: UUID, fence: int, now: datetime, last: int | None = None) -> bool:
    """Return whether there is a part, up to the number ``last``, that nobody does."""
    where = _free(now) if last is None else [*_free(now), TaskPart.number <= last]
    return _first(work, task_id, fence, where) is not None


def is_wanted(work: UnitOfWork, task_id: UUID, fence: int) -> bool:
    """Return whether the lead with this fence still runs the task, and is not to stop."""
    return bool(work.session.execute(select(_wanted(task_id, fence))).scalar_one())


def is_anybody_waiting(work: UnitOfWork) -> bool:
    """Return whether a task waits for a worker."""
    waiting = exists().where(Task.state == TaskState.PENDING, Task.deleted_at.is_(None))
    return bool(work.session.execute(select(waiting)).scalar_one())


def forget(work: UnitOfWork, task_id: UUID, *, but: int | None = None) -> None:
    """Delete the parts of a task; with ``but``, those of all other fences."""
    where = [TaskPart.task_id == task_id, *([] if but is None else [TaskPart.fence != but])]
    work.session.execute(delete(TaskPart).where(*where).execution_options(synchronize_session=False))


def _free(now: datetime) -> list[ColumnElement[bool]]:
    lost = (TaskPart.state == PartState.TAKEN) & (TaskPart.lease_until < now)
    return [or_(TaskPart.state == PartState.OPEN, lost)]


def _held(hold: Hold) -> list[ColumnElement[bool]]:
    return [TaskPart.state == PartState.TAKEN, TaskPart.attempts == hold.attempt, TaskPart.lease_until.is_not(None)]


def _wanted(task_id: UUID, fence: int) -> ColumnElement[bool]:
    return exists().where(
        Task.id == task_id,
        Task.fence == fence,
        Task.state == TaskState.RUNNING,
        Task.cancel_requested.is_(False),
        Task.deleted_at.is_(None),
    )


def _is(task_id: UUID, fence: int, number: int) -> list[ColumnElement[bool]]:
    return [TaskPart.task_id == task_id, TaskPart.fence == fence, TaskPart.number == number]


def _first(work: UnitOfWork, task_id: UUID, fence: int, where: list[ColumnElement[bool]]) -> int | None:
    query = select(TaskPart.number).where(TaskPart.task_id == task_id, TaskPart.fence == fence, *where)
    return work.session.execute(query.order_by(TaskPart.number).limit(1)).scalar_one_or_none()


def _inputs(work: UnitOfWork, task_id: UUID) -> dict[str, str]:
    files = work.session.execute(
        select(Upload.label, Upload.key).where(Upload.task_id == task_id, Upload.state == UploadState.FINISHED)
    )
    return {row.label: row.key for row in files}


def _write(
    work: UnitOfWork, task_id: UUID, fence: int, number: int, where: list[ColumnElement[bool]], **values: Any
) -> bool:
    result = work.session.execute(
        update(TaskPart)
        .where(*_is(task_id, fence, number), *where)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    return result.rowcount == 1
