from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.db.models import Upload
from app.domain.failures import cancelled
from app.domain.tasks import TaskState
from app.services import runs, tasks
from app.services.runs import Lease, Verdict

DOCUMENT = {"hulls": [], "totals": {"net_volume": 0.0}}
ERROR = {"code": "REGISTRATION_FAILED", "label": None, "message": "m", "remedy": "r", "details": {}}


def acquire(world: Any, task_id: UUID, now: datetime, worker: str = "w1") -> Lease | None:
    with world.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker=worker, now=now, lease_s=10)
        work.commit()
        return lease


def held(world: Any, now: datetime, **values: Any) -> tuple[UUID, Lease]:
    task_id = world.add(**values)
    lease = acquire(world, task_id, now)
    assert lease is not None
    return task_id, lease


def write(world: Any, step: Any, *args: Any, **values: Any) -> Any:
    with world.context.unit_of_work() as work:
        answer = step(work, *args, **values)
        work.commit()
        return answer


def lose(world: Any, task_id: UUID, now: datetime) -> Lease:
    """Let another worker take the task over, as after a stall."""
    from app.services.janitor import reap

    reap(world.context, now + timedelta(seconds=11))
    lease = acquire(world, task_id, now + timedelta(seconds=11), "w2")
    assert lease is not None
    return lease


def test_a_lease_says_all_that_a_run_needs(any_world: Any, now: datetime) -> None:
    task_id = any_world.add()
    with any_world.context.unit_of_work() as work:
        for label, state in (("pre", "finished"), ("post", "superseded"), ("shp", "open")):
            row = Upload(id=label, task_id=task_id, label=label, key=f"k/{label}", state=state, created_at=now)
            row.filename = f"{label}.laz"
            work.session.add(row)
        work.commit()
    lease = acquire(any_world, task_id, now)
    assert lease == Lease(task_id, 1, 1, "constant", {}, {"pre": ("k/pre", "pre.laz")})
    task = any_world.task(task_id)
    assert (task.state, task.worker, task.started_at) == (TaskState.RUNNING, "w1", now)
    assert task.lease_until == now + timedelta(seconds=10)


def test_only_one_of_many_workers_gets_a_task(any_world: Any, now: datetime, together: Any) -> None:
    for _ in range(5):
        task_id = any_world.add()
        leases = together([lambda worker=f"w{i}", t=task_id: acquire(any_world, t, now, worker) for i in range(6)])
        assert [lease is not None for lease in leases].count(True) == 1
        assert any_world.task(task_id).attempts == 1


@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.PENDING])
def test_only_a_pending_task_can_be_taken(world: Any, now: datetime, state: TaskState) -> None:
    assert acquire(world, world.add(state), now) is None


def test_no_worker_takes_a_task_that_is_not_there_or_was_deleted(world: Any, now: datetime) -> None:
    assert acquire(world, uuid4(), now) is None
    assert acquire(world, world.add(deleted_at=now), now) is None


def test_a_heartbeat_renews_the_lease_and_progress_never_falls(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    seen = []
    for seconds, progress in enumerate([0.2, 0.5, 0.3, float("nan"), 7.0, -1.0], start=1):
        later = now + timedelta(seconds=seconds)
        beat = {"progress": progress, "stage": "aligning", "now": later, "lease_s": 10.0}
        assert write(any_world, runs.heartbeat, lease, **beat) is Verdict.CONTINUE
        seen.append(any_world.task(task_id).progress)
    assert seen == [0.2, 0.5, 0.5, 0.5, 1.0, 1.0]
    task = any_world.task(task_id)
    assert task.stage == "aligning"
    assert task.lease_until == now + timedelta(seconds=16)


def test_a_heartbeat_hears_of_cancelling(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    write(any_world, tasks.cancel_task, task_id)
    beat = {"progress": 0.1, "stage": "x", "now": now, "lease_s": 10.0}
    assert write(any_world, runs.heartbeat, lease, **beat) is Verdict.CANCEL
    assert write(any_world, runs.kill, lease, error=cancelled(), now=now)
    task = any_world.task(task_id)
    assert (task.state, task.error, task.cancel_requested) == (TaskState.KILLED, cancelled(), False)


def test_a_result_is_recorded_once(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    files = [{"name": "a.png", "media_type": "image/png", "title": "A", "key": "k", "size": 3}]
    assert write(any_world, runs.finish, lease, document=DOCUMENT, artifacts=files, now=now)
    assert not write(any_world, runs.finish, lease, document={"hulls": [1]}, artifacts=[], now=now)
    task = any_world.task(task_id)
    assert (task.state, task.document, task.artifacts) == (TaskState.DONE, DOCUMENT, files)
    assert (task.progress, task.finished_at, task.lease_until) == (1.0, now, None)


def test_a_result_that_no_client_could_read_is_refused_before_anything_is_written(world: Any, now: datetime) -> None:
    task_id, lease = held(world, now)
    with world.context.unit_of_work() as work, pytest.raises(ValueError, match="not JSON compliant"):
        runs.finish(work, lease, document={"net": float("nan")}, artifacts=[], now=now)
    assert world.task(task_id).state is TaskState.RUNNING


def test_a_promise_to_cancel_is_kept_even_if_the_run_was_faster(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    write(any_world, tasks.cancel_task, task_id)
    assert not write(any_world, runs.finish, lease, document=DOCUMENT, artifacts=[], now=now)
    task = any_world.task(task_id)
    assert (task.state, task.document) == (TaskState.KILLED, None)
    assert task.error["code"] == "CANCELLED"


def test_a_failure_keeps_its_reason(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    assert write(any_world, runs.fail, lease, error={**ERROR, "details": {"rmse": float("nan")}}, now=now)
    task = any_world.task(task_id)
    assert (task.state, task.error) == (TaskState.ERROR, {**ERROR, "details": {"rmse": None}})


def test_a_worker_that_stops_gives_the_task_back_without_using_up_an_attempt(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    write(any_world, runs.heartbeat, lease, progress=0.7, stage="x", now=now, lease_s=10.0)
    assert write(any_world, runs.release, lease, now)
    task = any_world.task(task_id)
    assert (task.state, task.attempts, task.progress, task.lease_until) == (TaskState.PENDING, 0, 0.0, None)
    again = acquire(any_world, task_id, now)
    assert again is not None
    assert (again.attempt, again.fence) == (1, 2)


@pytest.mark.case(22, 23)
def test_who_lost_the_lease_changes_nothing(any_world: Any, now: datetime) -> None:
    task_id, old = held(any_world, now)
    new = lose(any_world, task_id, now)
    assert (new.fence, new.attempt) == (2, 2)
    beat = {"progress": 0.9, "stage": "ghost", "now": now, "lease_s": 999.0}
    assert write(any_world, runs.heartbeat, old, **beat) is Verdict.LOST
    assert not write(any_world, runs.finish, old, document=DOCUMENT, artifacts=[], now=now)
    assert not write(any_world, runs.fail, old, error=ERROR, now=now)
    assert not write(any_world, runs.kill, old, error=ERROR, now=now)
    assert not write(any_world, runs.release, old, now)
    task = any_world.task(task_id)
    assert (task.state, task.worker, task.progress, task.stage, task.error) == (TaskState.RUNNING, "w2", 0.0, "", None)
    assert task.lease_until == now + timedelta(seconds=21)


def test_a_run_of_a_deleted_task_is_told_to_stop(any_world: Any, now: datetime) -> None:
    task_id, lease = held(any_world, now)
    tasks.delete_task(any_world.context, task_id)
    beat = {"progress": 0.1, "stage": "x", "now": now, "lease_s": 10.0}
    assert write(any_world, runs.heartbeat, lease, **beat) is Verdict.CANCEL
