from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi.testclient import TestClient

from app.db import vitals
from app.db.models import Task
from app.domain.tasks import TaskState


def add(world: Any, now: datetime, state: TaskState, queue: str = "") -> UUID:
    task_id = uuid4()
    with world.context.unit_of_work() as work:
        work.session.add(
            Task(id=task_id, pipeline="four", options={}, state=state, queue=queue, created_at=now, queued_at=now)
        )
        work.commit()
    return task_id


def test_an_idle_service_lists_the_queues_of_its_pipelines(client: TestClient) -> None:
    found = client.get("/api/v1/queues").json()["queues"]
    assert found[0] == {
        "name": "celery", "pipelines": found[0]["pipelines"], "pending": 0, "running": 0, "workers": 0, "oldest": None,
    }  # fmt: skip
    assert "volume_change" in found[0]["pipelines"]


def test_tasks_are_counted_where_they_wait_and_workers_where_they_listen(
    client: TestClient, world: Any, now: Callable[[], datetime] | datetime
) -> None:
    moment = now if isinstance(now, datetime) else now()
    for state, queue in ((TaskState.PENDING, ""), (TaskState.PENDING, "gpu"), (TaskState.RUNNING, "gpu")):
        add(world, moment, state, queue)
    add(world, moment, TaskState.DONE)
    add(world, moment, TaskState.WAITING)
    with world.context.unit_of_work() as work:
        for name, queues in (("a", "celery,gpu"), ("b", "gpu")):
            vitals.show(work.session, "worker", name, version="1", details={"queues": queues}, now=work.now())
        work.commit()
    found = {queue["name"]: queue for queue in client.get("/api/v1/queues").json()["queues"]}
    assert (found["celery"]["pending"], found["celery"]["running"], found["celery"]["workers"]) == (1, 0, 1)
    assert (found["gpu"]["pending"], found["gpu"]["running"], found["gpu"]["workers"]) == (1, 1, 2)
    assert found["gpu"]["pipelines"] == []
    assert datetime.fromisoformat(found["gpu"]["oldest"]) == moment
