"""Which objects does no row name any more, and which rows name objects that are gone?

Nothing here is urgent: what is deleted is old, and lies in the store because a process died between two steps, or
because the database is that of a backup.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from app.db.models import Task, Upload
from app.domain.inventory import Stored
from app.domain.keys import task_prefix
from app.domain.tasks import TaskState, UploadState

if TYPE_CHECKING:
    from app.context import Context

log = logging.getLogger(__name__)

TASKS = "tasks/"
_BESIDE = (".info", ".part")  # what tusd keeps beside a file
_AT_ONCE = 200  # tasks asked for with one query
_SETTLING = timedelta(minutes=1)  # what ended while we looked may be half seen
_FEW = 10  # tasks that may be unknown without anybody wondering


class Why(StrEnum):
    """Why nobody needs an object, in words for people."""

    UNKNOWN = "its task is not in the database"
    ABANDONED = "an upload that does not count"
    ATTEMPT = "an attempt that does not count"
    UNFINISHED = "an upload in parts that nobody goes on with"


@dataclass(frozen=True, slots=True)
class Stray:
    """An object, or an upload in parts, that nobody needs."""

    found: Stored
    why: Why


@dataclass(frozen=True, slots=True)
class Loss:
    """A row that names what is gone.

    Args:
        task_id: Of which task.
        state: The task's.
        what: Which file, such as ``file pre`` or ``result hulls/1.png``.
        means: What comes of it, and what helps.
        handle: Of an upload that its client cannot go on with.
    """

    task_id: UUID
    state: TaskState
    what: str
    means: str
    handle: str = ""


@dataclass(slots=True)
class Survey:
    """What was found.

    Args:
        tasks: How many tasks have objects.
        unknown: How many of them are not in the database.
        strays: What may be deleted.
        losses: What is gone.
    """

    tasks: int = 0
    unknown: int = 0
    strays: list[Stray] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    @property
    def is_strange(self) -> bool:
        """Whether so many tasks are unknown that this is likely the database, or the store, of somebody else."""
        return self.unknown > _FEW and self.unknown * 10 > self.tasks


def survey(context: "Context", now: datetime, older_than: timedelta) -> Survey:
    """Compare the store with the database; changes nothing.

    Args:
        context: The application's parts.
        now: The present, UTC.
        older_than: Younger objects are left alone: a task has objects before it has a row.

    Raises:
        OSError: If the store does not answer.
    """
    found, before, settled = Survey(), now - older_than, datetime.now(UTC) - _SETTLING
    seen: set[UUID] = set()
    for batch in _batches(context.store.listed(TASKS)):
        seen |= batch.keys()
        rows = _load(context, list(batch))
        for task_id, objects in batch.items():
            task = rows.get(task_id)
            found.tasks += 1
            old = [each for each in objects if each.changed_at < before]
            found.unknown += task is None and bool(old)
            reasons = [(each, Why.UNKNOWN if task is None else _why(task, each.key)) for each in old]
            found.strays += [Stray(each, why) for each, why in reasons if why is not None]
        for task in rows.values():
            found.losses += _losses(context, task, {each.key for each in batch[task.id]}, settled)
    for rest in _pages(_all_but(context, seen)):
        for task in _load(context, rest).values():
            found.losses += _losses(context, task, set(), settled)
    found.strays += _unfinished(context, found.strays, before)
    return found


def clear(context: "Context", found: Survey) -> tuple[int, int]:
    """Delete strays; return how many, and their bytes. What cannot be deleted now is logged and found the next time."""
    count = size = 0
    for stray in found.strays:
        try:
            context.store.remove(stray.found)
        except OSError:
            log.exception("a stray object could not be deleted", extra={"key": stray.found.key})
            continue
        count += 1
        size += stray.found.size
    return count, size


def close(context: "Context", found: Survey) -> int:
    """Let the clients of uploads that cannot go on hear so, instead of sending for nothing; return how many."""
    closed = 0
    for loss in found.losses:
        if not loss.handle:
            continue
        try:
            context.uploads.discard(loss.handle)
        except OSError:
            log.exception("an upload could not be closed", extra={"task_id": str(loss.task_id)})
            continue
        closed += 1
    return closed


def _batches(objects: Iterable[Stored]) -> Iterator[dict[UUID, list[Stored]]]:
    """Yield objects by task, some tasks at a time; a task whose objects do not lie together comes twice."""
    batch: dict[UUID, list[Stored]] = {}
    for each in objects:
        task_id = _task_of(each.key)
        if task_id is None:
            continue
        if task_id not in batch and len(batch) == _AT_ONCE:
            yield batch
            batch = {}
        batch.setdefault(task_id, []).append(each)
    if batch:
        yield batch


def _task_of(key: str) -> UUID | None:
    """Return the task that a key belongs to; None if it is not one of ours.

    >>> _task_of("tasks/00000000-0000-0000-0000-000000000007/in/pre-abc")
    UUID('00000000-0000-0000-0000-000000000007')
    >>> _task_of("tasks/readme.txt")
    """
    name = key.removeprefix(TASKS).partition("/")[0]
    try:
        task_id = UUID(name)
    except ValueError:
        return None
    return task_id if key.startswith(task_prefix(task_id)) else None


def _load(context: "Context", ids: Sequence[UUID]) -> dict[UUID, Task]:
    """Return tasks with their uploads."""
    with context.unit_of_work(read_only=True) as work:
        query = select(Task).where(Task.id.in_(ids)).options(selectinload(Task.uploads))
        return {task.id: task for task in work.session.execute(query).scalars()}


def _all_but(context: "Context", seen: set[UUID]) -> list[UUID]:
    with context.unit_of_work(read_only=True) as work:
        ids = work.session.execute(select(Task.id).where(Task.deleted_at.is_(None))).scalars()
        return [task_id for task_id in ids if task_id not in seen]


def _pages(ids: list[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _why(task: Task, key: str) -> Why | None:
    """Return why an object of a task does not count; None if it does, or is not ours to judge."""
    if task.deleted_at is not None:
        return None  # the reaper is at it
    kind, _, rest = key.removeprefix(task_prefix(task.id)).partition("/")
    if kind == "in":
        counting = {upload.key for upload in task.uploads if _counts(task, upload)}
        return None if _file_of(key) in counting else Why.ABANDONED
    if kind == "out" and task.step > 0 and task.state is not TaskState.DONE:
        return None  # what its first steps handed on is needed until the last one is done
    if kind == "out":
        current = task.state in (TaskState.RUNNING, TaskState.DONE) and rest.partition("/")[0] == str(task.fence)
        named = any(key == artifact["key"] for artifact in task.artifacts or [])
        return None if current or named else Why.ATTEMPT
    if kind == "parts":
        shared = task.state is TaskState.RUNNING and rest.partition("/")[0] == str(task.fence)
        return None if shared else Why.ATTEMPT
    return None


def _counts(task: Task, upload: Upload) -> bool:
    if upload.state == UploadState.OPEN:
        return task.state is not TaskState.KILLED  # nobody may send to it then
    return upload.state != UploadState.SUPERSEDED


def _file_of(key: str) -> str:
    """Return the key of the file that an object belongs to.

    >>> _file_of("tasks/7/in/pre-abc.info"), _file_of("tasks/7/in/pre-abc")
    ('tasks/7/in/pre-abc', 'tasks/7/in/pre-abc')
    """
    for ending in _BESIDE:
        if key.endswith(ending):
            return key.removesuffix(ending)
    return key


def _unfinished(context: "Context", strays: list[Stray], before: datetime) -> Iterator[Stray]:
    """Yield the old uploads in parts that no row waits for: those that the store lists, and those beside strays."""
    asked = [TASKS, *{_file_of(stray.found.key) for stray in strays if stray.found.key.endswith(_BESIDE)}]
    old = {
        (each.key, each.unfinished): each
        for prefix in asked
        for each in context.store.unfinished(prefix)
        if each.changed_at < before and _task_of(each.key) is not None
    }
    for page in _pages(list({task_id for key, _ in old if (task_id := _task_of(key)) is not None})):
        rows, wanted = _load(context, page), set(page)
        for each in old.values():
            task_id = _task_of(each.key)
            if task_id in wanted and (task_id not in rows or not _is_awaited(rows[task_id], each)):
                yield Stray(each, Why.UNFINISHED)


def _is_awaited(task: Task, part: Stored) -> bool:
    if "/in/" not in part.key:
        return _why(task, part.key) is None
    handle = f"{part.key}+{part.unfinished}"  # as tusd names it
    mine = [upload for upload in task.uploads if upload.key == part.key and _counts(task, upload)]
    return task.deleted_at is not None or any(u.state == UploadState.OPEN and u.handle == handle for u in mine)


def _losses(context: "Context", task: Task, present: set[str], settled: datetime) -> Iterator[Loss]:
    """Yield what a task's rows name and the store has not; ``settled`` is when such a row must have been written."""
    if task.deleted_at is not None:
        return
    for upload in task.uploads:
        if upload.state == UploadState.FINISHED and upload.key not in present and _is_before(upload, settled):
            yield Loss(task.id, task.state, f"file {upload.label}", _MEANS[task.state])
        elif upload.state == UploadState.OPEN and task.state in _TAKES_FILES and _is_dead(context, upload):
            yield Loss(task.id, task.state, f"upload {upload.label}", _SEND_AGAIN, upload.handle)
    if task.state is TaskState.DONE and task.finished_at is not None and task.finished_at < settled:
        for artifact in task.artifacts or []:
            if artifact["key"] not in present:
                yield Loss(task.id, task.state, f"result {artifact['name']}", _NO_RESULT)


def _is_before(upload: Upload, settled: datetime) -> bool:
    return upload.finished_at is not None and upload.finished_at < settled


def _is_dead(context: "Context", upload: Upload) -> bool:
    """Return whether an open upload has lost what came of it; asked in this order, since it may end meanwhile."""
    if upload.source:  # which is fetched anew, if need be
        return False
    return context.uploads.offset(upload.handle) is None and context.store.size(upload.key) is None


_TAKES_FILES = (TaskState.WAITING, TaskState.ERROR)
_SEND_AGAIN = "it cannot go on; a fresh one comes from POST /api/v1/tasks/{id}/uploads/{label}"
_FAILS = "its run will fail with STORAGE; then send the file again and it runs again"
_NO_RESULT = "its link leads nowhere; run the task again under a new id, or restore the object"
_MEANS = {
    TaskState.WAITING: "the task would start and fail with STORAGE; send the file again",
    TaskState.PENDING: _FAILS,
    TaskState.RUNNING: _FAILS,
    TaskState.ERROR: "the task cannot be run again until the file is sent again",
    TaskState.KILLED: "the task cannot be run again; create a new one",
    TaskState.DONE: "the result is not touched by it",
}
