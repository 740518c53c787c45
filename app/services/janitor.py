"""Puts right what nobody else will: lost workers, lost hooks, lost doorbells, abandoned uploads.

Everything it does is a compare-and-set, so it may run twice at once and may be killed at any point.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Aged, Task, Upload
from app.domain import failures
from app.domain.errors import TaskNotFound
from app.domain.tasks import TaskState, UploadState
from app.services import queries, tasks, uploads
from app.services.following import logbook
from app.services.intake import arrivals, repeats

if TYPE_CHECKING:
    from app.context import Context

log = logging.getLogger(__name__)

_RING_AT_MOST_EVERY = timedelta(minutes=10)
_AT_ONCE = 50  # tasks deleted for their age in one round, so that a round stays short
_GRACE = timedelta(seconds=2)  # a hook that is on its way is faster than we
_EXPIRED = "expired"
_REMEMBERED = timedelta(days=365)  # that a task was deleted for its age


@dataclass(frozen=True, slots=True)
class Report:
    """What one round did, in tasks.

    Args:
        requeued: Their worker was lost; they are pending again.
        lost: Their worker was lost too often; they are killed.
        cancelled: Their worker was lost while it was to stop them; they are killed.
        rung: The doorbell was rung again for them.
        started: All their files were there, but the hook was lost.
        expired: Their files did not come in time; they are killed.
        aged: They ended long ago; they are deleted.
        purged: They were deleted while they ran, and are now gone.
    """

    requeued: int = 0
    lost: int = 0
    cancelled: int = 0
    rung: int = 0
    started: int = 0
    expired: int = 0
    aged: int = 0
    purged: int = 0


def reap(context: "Context", now: datetime) -> Report:
    """Do one round.

    Args:
        context: The application's parts.
        now: The present, UTC.
    """
    fates = [_bury(context, task_id, now) for task_id in _ids(context, *_lease_ran_out(now))]
    started, expired = _tend_waiting(context, now)
    repeats.forget(context, now)
    return Report(
        requeued=fates.count(TaskState.PENDING),
        lost=fates.count(TaskState.KILLED),
        cancelled=fates.count(None),
        rung=_ring(context, now, everyone=False),
        started=started,
        expired=expired,
        aged=_forget(context, now),
        purged=_purge(context),
    )


def rouse(context: "Context", now: datetime) -> int:
    """Ring for every pending task, as when a broker or a worker has just come back; return how many."""
    return _ring(context, now, everyone=True)


def _lease_ran_out(now: datetime) -> list[ColumnElement[bool]]:
    return [Task.state == TaskState.RUNNING, Task.lease_until < now]


def _ids(context: "Context", *where: ColumnElement[bool]) -> list[UUID]:
    with context.unit_of_work(read_only=True) as work:
        return list(work.session.execute(select(Task.id).where(*where).order_by(Task.queued_at)).scalars())


def _bury(context: "Context", task_id: UUID, now: datetime) -> TaskState | str | None:
    """Decide about a task whose lease ran out; "alive" if it turns out not to be so, None if it was cancelled."""
    with context.unit_of_work() as work:
        query = select(Task).where(Task.id == task_id, *_lease_ran_out(now)).with_for_update()
        task = work.session.execute(query).scalar_one_or_none()
        if task is None:
            return "alive"
        logbook.note(work, task_id, now, "Its worker was lost.", level="warning", attempt=task.attempts)
        fate: TaskState | None
        if task.cancel_requested:
            queries.settle(work, task, TaskState.KILLED, failures.cancelled(), now)
            fate = None
        elif task.attempts < context.policy.max_attempts:
            queries.queue_task(work, context.queue, task, now)
            fate = TaskState.PENDING
        else:
            queries.settle(work, task, TaskState.KILLED, failures.lost(task.attempts), now)
            fate = TaskState.KILLED
        work.commit()
    log.warning("a worker was lost", extra={"task_id": str(task_id), "attempts": task.attempts, "fate": str(fate)})
    return fate


def _ring(context: "Context", now: datetime, *, everyone: bool) -> int:
    """Ring again for pending tasks; ever more rarely for one that waits long, since most likely the queue is long."""
    rung = 0
    with context.unit_of_work(read_only=True) as work:
        pending = work.session.execute(
            select(Task.id, Task.queued_at, Task.dispatched_at, Task.step, Task.queue)
            .where(Task.state == TaskState.PENDING, Task.deleted_at.is_(None))
            .order_by(Task.queued_at)
        ).all()
    for task_id, queued_at, dispatched_at, step, queue in pending:
        if not everyone and not _is_due(queued_at, dispatched_at, now, context.policy.redispatch_s):
            continue
        if not _mark(context, task_id, dispatched_at, now):
            continue
        try:
            context.queue.submit(task_id, step, queue)
        except Exception as error:  # noqa: BLE001  (whatever the broker's library raises)
            # Nobody heard it: due again in the next round, as are the others, each of which would wait as long for us.
            _mark(context, task_id, now, dispatched_at)
            log.warning("the broker takes no messages, so tasks wait: %s", error)
            break
        rung += 1
    return rung


def _is_due(queued_at: datetime | None, dispatched_at: datetime | None, now: datetime, redispatch_s: float) -> bool:
    if dispatched_at is None or queued_at is None:
        return True
    patience = max(timedelta(seconds=redispatch_s), min(dispatched_at - queued_at, _RING_AT_MOST_EVERY))
    return now - dispatched_at >= patience


def _mark(context: "Context", task_id: UUID, seen: datetime | None, rung_at: datetime | None) -> bool:
    """Note when the bell of a pending task was rung last; False if that is no longer what we saw."""
    same = Task.dispatched_at.is_(None) if seen is None else Task.dispatched_at == seen
    with context.unit_of_work() as work:
        result = work.session.execute(
            update(Task)
            .where(Task.id == task_id, Task.state == TaskState.PENDING, same)
            .values(dispatched_at=rung_at)
            .execution_options(synchronize_session=False)
        )
        work.commit()
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    return result.rowcount == 1


def _tend_waiting(context: "Context", now: datetime) -> tuple[int, int]:
    """Start what is complete, give up what is abandoned; return how many of each."""
    waiting = _waiting(context, now - _GRACE)
    fates = _for_each((task.id, partial(_tend, context, now, task, files, since)) for task, files, since in waiting)
    return fates.count(TaskState.PENDING), fates.count(_EXPIRED)


def _tend(context: "Context", now: datetime, task: Task, still_open: list[Upload], since: datetime) -> object:
    ttl = timedelta(seconds=context.policy.upload_ttl_s)
    state = _look(context, task, still_open)
    if state is TaskState.WAITING and now - since > ttl and not _moves(context, still_open, now - ttl):
        gone = uploads.expire(context, task.id, now, failures.expired(context.policy.upload_ttl_s))
        return _EXPIRED if gone else state
    return state


def _waiting(context: "Context", created_before: datetime) -> list[tuple[Task, list[Upload], datetime]]:
    """Return each waiting task with its open uploads, and when last something happened to it."""
    where = [Task.state == TaskState.WAITING, Task.deleted_at.is_(None), Task.created_at <= created_before]
    with context.unit_of_work(read_only=True) as work:
        found = work.session.execute(
            select(Task, func.max(Upload.created_at), func.max(Upload.finished_at))
            .outerjoin(Upload, Upload.task_id == Task.id)
            .where(*where)
            .group_by(Task.id)
        ).all()
        still_open: dict[UUID, list[Upload]] = {}
        for upload in work.session.execute(
            select(Upload).join(Task).where(*where, Upload.state == UploadState.OPEN)
        ).scalars():
            still_open.setdefault(upload.task_id, []).append(upload)
    return [
        (task, still_open.get(task.id, []), max(filter(None, [task.created_at, *moments]))) for task, *moments in found
    ]


def _look(context: "Context", task: Task, still_open: list[Upload]) -> TaskState:
    """Find what has arrived untold; a task for which nothing has costs no transaction."""
    spec = context.catalogue.get(task.pipeline)
    came = any(arrivals.arrived(context, upload) is not None for upload in still_open)
    if not came and spec is not None and any(upload.label in spec.labels for upload in still_open):
        return TaskState.WAITING
    return uploads.reconcile(context, task.id)


def _moves(context: "Context", still_open: list[Upload], since: datetime) -> bool:
    """Return whether bytes still come in, as over a bad line they may for longer than anybody thought."""
    moments = [arrivals.moved_at(context, upload) for upload in still_open]
    return any(moment is not None and moment > since for moment in moments)


def _forget(context: "Context", now: datetime) -> int:
    """Delete tasks that ended longer ago than they are to be kept, some at a time."""
    if not context.policy.task_ttl_s:
        return 0
    with context.unit_of_work(read_only=True) as work:
        old = work.session.execute(
            select(Task.id)
            .where(Task.finished_at < now - timedelta(seconds=context.policy.task_ttl_s), Task.deleted_at.is_(None))
            .where(Task.state.in_([state for state in TaskState if state.is_settled]))
            .order_by(Task.finished_at)
            .limit(_AT_ONCE)
        ).scalars()
        ids = list(old)
    queries.forget(context, Aged, Aged.at < now - _REMEMBERED)  # long after, nobody asks for them
    return len(_for_each((task_id, partial(tasks.delete_task, context, task_id, aged=True)) for task_id in ids))


def _purge(context: "Context") -> int:
    gone = _ids(context, Task.deleted_at.is_not(None), Task.state != TaskState.RUNNING)
    return len(_for_each((task_id, partial(tasks.purge, context, task_id)) for task_id in gone))


def _for_each(steps: Iterable[tuple[UUID, Callable[[], object]]]) -> list[object]:
    """Do a step for each task and return what those did that succeeded; one's failing does not harm the others.

    If a server is away the rest comes in a later round: each would wait for it as long, and lost runs for us.
    """
    done = []
    for task_id, step in steps:
        try:
            done.append(step())
        except TaskNotFound:
            continue  # deleted meanwhile
        except Exception as error:
            if isinstance(error, OSError) and isinstance(getattr(error, "code", None), str):
                log.warning("the janitor leaves the rest for later: %s", error, extra={"task_id": str(task_id)})
                break
            log.exception("the janitor could not tend to a task", extra={"task_id": str(task_id)})
    return done
