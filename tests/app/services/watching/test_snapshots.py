from datetime import timedelta
from typing import Any
from uuid import uuid4

from app.domain.access import Caller, scopes_of
from app.domain.tasks import TaskState
from app.services import queries, runs, tasks
from app.services.watching import snapshots


def test_of_many_tasks_each_is_as_its_row_says(any_world: Any, now: Any) -> None:
    world = any_world
    queued = [world.add(queued_at=now + timedelta(seconds=n)) for n in range(3)]
    elsewhere = world.add(queue="gpu", queued_at=now + timedelta(hours=1))
    opened, _ = tasks.create_task(world.context, "constant")
    gone = world.add(deleted_at=now)
    found = snapshots.take(world.context, [*queued, elsewhere, opened.id, gone, uuid4()])
    assert set(found) == {*queued, elsewhere, opened.id}
    for task_id, snapshot in found.items():
        with world.context.unit_of_work(read_only=True) as work:
            task = queries.get_task(work, task_id)
            assert snapshot.queue_position == queries.queue_position(work, task)
        assert (snapshot.state, snapshot.pipeline, snapshot.progress) == (task.state, task.pipeline, task.progress)
    assert [file[1:] for file in found[opened.id].files] == [("file", "open", None)]


def test_the_tag_changes_with_what_a_watcher_would_see_and_with_nothing_else(world: Any, now: Any) -> None:
    first, second = (world.add(queued_at=now + timedelta(seconds=n)) for n in range(2))

    def tag() -> str:
        return snapshots.take(world.context, [second])[second].tag

    seen = [tag()]
    with world.context.unit_of_work() as work:
        lease = runs.acquire(work, first, worker="w", now=now, lease_s=10)
        work.commit()
    seen.append(tag())  # it is the next now
    for progress, stage in ((0.0, ""), (0.0, "reading"), (0.4, "reading")):
        with world.context.unit_of_work() as work:
            if progress == 0.0 and not stage:
                lease = runs.acquire(work, second, worker="w", now=now, lease_s=10)
            runs.heartbeat(work, lease, progress=progress, stage=stage, now=now, lease_s=10)
            work.commit()
        seen.append(tag())
    with world.context.unit_of_work() as work:
        runs.heartbeat(work, lease, progress=0.4, stage="reading", now=now, lease_s=99)
        work.commit()
    assert len(set(seen)) == 5
    assert tag() == seen[-1]


def test_who_sees_only_his_own_tasks_gets_no_snapshot_of_others(world: Any) -> None:
    theirs, nobodys = world.add(TaskState.DONE, owner="alice"), world.add(TaskState.DONE)
    bob = world.context.seen_by(Caller("bob", "key", "bob", scopes_of(["read"])))
    assert snapshots.take(bob, [theirs, nobodys]) == {}
