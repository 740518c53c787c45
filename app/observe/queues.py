"""How long are the queues, and who listens to them?"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db import vitals
from app.db.models import Task
from app.db.session import UnitOfWork
from app.domain.ports import DEFAULT_QUEUE
from app.domain.tasks import TaskState
from app.observe.checks import WORKER_SILENT_S

if TYPE_CHECKING:
    from pipeline.registry import Catalogue


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as somebody looks at it.

    Args:
        name: Of the queue.
        pipelines: Those with a step in it.
        pending: Tasks that wait in it, everybody's.
        running: Tasks whose step came from it and runs.
        workers: Workers that listen to it and were seen in the last minute.
        oldest: Since when the first in it has waited; None if none does.
    """

    name: str
    pipelines: list[str]
    pending: int
    running: int
    workers: int
    oldest: datetime | None


def look(work: UnitOfWork, catalogue: "Catalogue") -> list[QueueView]:
    """Return every queue that a pipeline uses or in which a task is, the default one first."""
    users: dict[str, list[str]] = {DEFAULT_QUEUE: []}
    for spec in catalogue.values():
        for queue in dict.fromkeys(step.queue or DEFAULT_QUEUE for step in spec.steps):
            users.setdefault(queue, []).append(spec.name)
    counts: dict[tuple[str, TaskState], int] = {}
    oldest: dict[str, datetime] = {}
    busy = (TaskState.PENDING, TaskState.RUNNING)
    found = work.session.execute(
        select(Task.queue, Task.state, func.count(), func.min(Task.queued_at))
        .where(Task.state.in_(busy), Task.deleted_at.is_(None))
        .group_by(Task.queue, Task.state)
    )
    for queue, state, count, since in found:
        name = queue or DEFAULT_QUEUE
        users.setdefault(name, [])
        counts[name, state] = count
        if state is TaskState.PENDING and since is not None:
            oldest[name] = since
    listening = [
        str(sign.details.get("queues", "")).split(",")
        for sign in vitals.signs(work.session, since=work.now() - timedelta(seconds=WORKER_SILENT_S))
        if sign.kind == "worker"
    ]
    return [
        QueueView(
            name,
            pipelines,
            counts.get((name, TaskState.PENDING), 0),
            counts.get((name, TaskState.RUNNING), 0),
            sum(name in queues for queues in listening),
            oldest.get(name),
        )
        for name, pipelines in users.items()
    ]
