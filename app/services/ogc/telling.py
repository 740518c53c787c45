"""What a job's subscribers are told, by the same deliveries as every callback."""

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import select

from app.db.models import Delivery, OgcOrder, Task
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState
from app.domain.tasks import TaskState
from app.services.ogc.asking import outputs_of
from app.services.ogc.links import JSON, job_href
from app.services.ogc.words import snapshot

if TYPE_CHECKING:
    from app.context import Context

EVENT = "ogc."
"""What the event of such a delivery begins with."""
_URIS = {
    TaskState.RUNNING: "inProgressUri",
    TaskState.DONE: "successUri",
    TaskState.ERROR: "failedUri",
    TaskState.KILLED: "failedUri",
}


def announce(work: UnitOfWork, task_id: UUID, now: datetime) -> None:
    """Write down that a job's subscriber is to be told of its state; where nobody wants to know do nothing."""
    found = work.session.execute(
        select(
            OgcOrder.subscriber,
            OgcOrder.outputs,
            Task.id,
            Task.state,
            Task.pipeline,
            Task.stage,
            Task.progress,
            Task.cancel_requested,
            Task.error,
            Task.created_at,
            Task.queued_at,
            Task.started_at,
            Task.finished_at,
        )
        .join(Task)
        .where(OgcOrder.task_id == task_id, Task.deleted_at.is_(None))
    ).one_or_none()
    if found is None or (url := found.subscriber.get(_URIS.get(found.state))) is None:
        return
    said = snapshot(found)
    delivery = Delivery(
        id=uuid4(),
        task_id=task_id,
        event=f"{EVENT}{said['status']}",
        host=urlsplit(url).netloc[:255],
        url=url,
        payload={"status": said, "outputs": list(found.outputs)},
        state=DeliveryState.PENDING,
        tries=[],
        created_at=now,
        due_at=now,
    )
    work.session.add(delivery)


def body(context: "Context", delivery: Delivery) -> dict[str, Any]:
    """Return what a subscriber is sent: of a job that succeeded its results, by links; else its status.

    The links are this API's own and need a key where one is needed: a body may lie in somebody's log for long.
    """
    assert delivery.task_id is not None  # noqa: S101  (narrowing: only pings tell of no task)
    said, own = delivery.payload["status"], job_href(context, delivery.task_id)
    if delivery.event != f"{EVENT}successful":
        links = [{"href": own, "rel": "monitor", "type": JSON, "title": "Its status"}]
        return {**said, "links": links}
    spec = context.catalogue.get(said["processID"])
    slots = {} if spec is None else outputs_of(spec)
    return {
        label: {"href": f"{own}/results/{label}", "type": slots[label].media_type, "title": slots[label].title}
        for label in delivery.payload["outputs"]
        if label in slots
    }
