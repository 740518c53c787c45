"""What changes about tasks while somebody waits for it, of many tasks in a few small queries."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import func, select

from app.db.models import Task, Upload
from app.db.session import UnitOfWork
from app.domain.tasks import TaskState
from app.services import queries

if TYPE_CHECKING:
    from app.context import Context

_AT_ONCE = 500  # ids in one query


@dataclass(frozen=True)
class Snapshot:
    """A task as its row was at one time: small, and no row, so that it may be kept and shared.

    Args:
        task_id: Which task.
        owner: Whose it is.
        pipeline: What runs.
        state: Where it stands.
        step: Of its pipeline's steps.
        stage: What the run is doing.
        progress: Fraction done, 0 to 1.
        eta_at: When the run is expected to be done; None if that cannot be said.
        attempts: Times that a worker took it.
        cancelling: Whether it is being stopped.
        queue_position: 1 for the next to be served; None if it is not queued.
        error: Why it failed: code, label, message, remedy, details.
        queued_at: When it was queued last.
        started_at: When its run began.
        finished_at: When it ended.
        log_lines: How many lines its log has had.
        files: Of each upload its id, label and state, and its size once it is whole.
        fetched: Bytes that have come of files which are fetched from URLs.
    """

    task_id: UUID
    owner: str
    pipeline: str
    state: TaskState
    step: int
    stage: str
    progress: float
    eta_at: datetime | None
    attempts: int
    cancelling: bool
    queue_position: int | None
    error: dict[str, Any] | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    log_lines: int = 0
    files: tuple[tuple[str, str, str, int | None], ...] = ()
    fetched: int = 0

    @cached_property
    def tag(self) -> str:
        """A short word that is another one as soon as anything here is."""
        values = [getattr(self, name) for name in self.__dataclass_fields__]
        return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:32]


_COLUMNS = (
    Task.id,
    Task.owner,
    Task.pipeline,
    Task.state,
    Task.step,
    Task.stage,
    Task.progress,
    Task.eta_at,
    Task.attempts,
    Task.cancel_requested,
    Task.error,
    Task.queued_at,
    Task.started_at,
    Task.finished_at,
    Task.log_lines,
)


def take(context: "Context", task_ids: Iterable[UUID]) -> dict[UUID, Snapshot]:
    """Return a snapshot of each task that is there, and that the context's viewer sees."""
    found: dict[UUID, Snapshot] = {}
    with context.unit_of_work(read_only=True) as work:
        for ids in _batches(task_ids):
            found |= _take(work, ids)
    return found


def _batches(task_ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    rest = iter(task_ids)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch


def _take(work: UnitOfWork, ids: Sequence[UUID]) -> dict[UUID, Snapshot]:
    rows = work.session.execute(
        select(*_COLUMNS).where(Task.id.in_(ids), Task.deleted_at.is_(None), *queries.seen(work))
    ).all()
    queued = [row.id for row in rows if row.state is TaskState.PENDING]
    places = _places(work, queued) if queued else {}
    files = _files(work, ids)
    return {
        row.id: Snapshot(
            task_id=row.id,
            owner=row.owner,
            pipeline=row.pipeline,
            state=row.state,
            step=row.step,
            stage=row.stage,
            progress=row.progress,
            eta_at=row.eta_at if row.state is TaskState.RUNNING else None,
            attempts=row.attempts,
            cancelling=row.cancel_requested,
            queue_position=places.get(row.id),
            error=row.error,
            queued_at=row.queued_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            log_lines=row.log_lines,
            files=tuple((file.id, file.label, file.state, file.size) for file in files.get(row.id, ())),
            fetched=sum(file.received for file in files.get(row.id, ())),
        )
        for row in rows
    }


def _places(work: UnitOfWork, ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the places of queued tasks, each in its queue, as ``queries.queue_position`` tells that of one."""
    place = func.rank().over(partition_by=Task.queue, order_by=Task.queued_at).label("place")
    queued = select(Task.id, place).where(
        Task.state == TaskState.PENDING, Task.deleted_at.is_(None), Task.queued_at.is_not(None)
    )
    ranked = queued.subquery()
    found = work.session.execute(select(ranked.c.id, ranked.c.place).where(ranked.c.id.in_(ids)))
    return {row.id: row.place for row in found}


def _files(work: UnitOfWork, ids: Sequence[UUID]) -> dict[UUID, list[Upload]]:
    query = select(Upload).where(Upload.task_id.in_(ids)).order_by(Upload.created_at, Upload.id)
    files: dict[UUID, list[Upload]] = {}
    for upload in work.session.execute(query).scalars():
        files.setdefault(upload.task_id, []).append(upload)
    return files
