import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app.api.deps import Aside
from app.api.tasks.watching import Watcher
from app.db.models import Task
from app.domain.access import Caller, scopes_of
from app.domain.errors import TaskNotFound
from app.domain.tasks import TaskState

FAST_S = 0.01
LONG_S = 60.0


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(Aside(1), every_s=FAST_S)


def change(world: Any, task_id: UUID, **values: Any) -> None:
    with world.context.unit_of_work() as work:
        task = work.session.get(Task, task_id)
        for name, value in values.items():
            setattr(task, name, value)
        work.commit()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def test_who_waits_is_woken_by_a_change_and_by_nothing_else(world: Any, watcher: Watcher) -> None:
    task_id = world.add(TaskState.RUNNING)

    async def work() -> None:
        async with watcher.watch(world.context, task_id) as watch:
            seen = watch.now.tag
            assert await watch.change(seen, 10 * FAST_S) is None
            waiting = asyncio.create_task(watch.change(seen, LONG_S))
            await asyncio.to_thread(change, world, task_id, stage="comparing", progress=0.4)
            found = await waiting
            assert found is not None
            assert (found.stage, found.progress) == ("comparing", 0.4)
            assert await watch.change(seen, 0.0) == found  # what is news already needs no waiting

    run(work)


def test_hundreds_who_wait_share_each_look(any_world: Any, watcher: Watcher) -> None:
    world = any_world
    ids = [world.add(TaskState.RUNNING) for _ in range(20)]
    asked: list[str] = []
    event.listen(world.context.engine, "before_cursor_execute", lambda *about: asked.append(about[2]))

    joined: list[UUID] = []

    async def wait(task_id: UUID) -> str:
        async with watcher.watch(world.context, task_id) as watch:
            joined.append(task_id)
            found = await watch.change(watch.now.tag, LONG_S)
            assert found is not None
            return found.stage

    async def work() -> None:
        waiting = [asyncio.create_task(wait(task_id)) for task_id in ids * 20]
        while len(joined) < len(waiting):
            await asyncio.sleep(FAST_S)
        for task_id in ids:
            await asyncio.to_thread(change, world, task_id, stage=str(task_id))
        assert await asyncio.gather(*waiting) == [str(task_id) for task_id in ids * 20]

    run(work)
    reads = [statement for statement in asked if statement.startswith("SELECT") and "uploads" in statement]
    assert len(reads) < 200  # looks of 400 who wait, most of them made while the twenty changed


def test_a_task_is_never_shown_as_it_was_before_what_was_seen(world: Any, watcher: Watcher) -> None:
    task_id = world.add(TaskState.RUNNING)

    async def follow() -> list[float]:
        seen: list[float] = []
        async with aclosing(watcher.changes(world.context, task_id)) as changes:
            async for snapshot in changes:
                assert snapshot is not None
                seen.append(snapshot.progress)
                if snapshot.progress == 1.0:
                    break
        return seen

    async def join() -> None:
        async with watcher.watch(world.context, task_id):
            await asyncio.sleep(0)

    async def work() -> None:
        followers = [asyncio.create_task(follow()) for _ in range(3)]
        for percent in range(0, 101, 5):
            await asyncio.gather(asyncio.to_thread(change, world, task_id, progress=percent / 100), join(), join())
        for seen in await asyncio.gather(*followers):
            assert seen == sorted(set(seen))

    run(work)


def test_a_task_that_is_deleted_wakes_who_waits_for_it(world: Any, watcher: Watcher, now: datetime) -> None:
    task_id = world.add(TaskState.RUNNING)

    async def work() -> None:
        async with watcher.watch(world.context, task_id) as watch:
            waiting = asyncio.create_task(watch.change(watch.now.tag, LONG_S))
            await asyncio.to_thread(change, world, task_id, deleted_at=now)
            with pytest.raises(TaskNotFound):
                await waiting

    run(work)


def test_others_tasks_cannot_be_watched_even_while_their_owners_do(world: Any, watcher: Watcher) -> None:
    task_id = world.add(TaskState.RUNNING, owner="alice")
    alice, bob = (world.context.seen_by(Caller(who, "key", who, scopes_of(["read"]))) for who in ("alice", "bob"))

    async def work() -> None:
        async with watcher.watch(alice, task_id):
            for context, unseen in ((bob, task_id), (alice, uuid4())):
                with pytest.raises(TaskNotFound):
                    async with watcher.watch(context, unseen):
                        pass

    run(work)


def test_when_the_server_stops_nobody_goes_on_waiting(world: Any, watcher: Watcher) -> None:
    task_id = world.add(TaskState.RUNNING)

    async def work() -> None:
        async with watcher.watch(world.context, task_id) as watch:
            waiting = asyncio.create_task(watch.change(watch.now.tag, LONG_S))
            await asyncio.sleep(0)
            watcher.close()
            assert await waiting is None
        async with aclosing(watcher.changes(world.context, task_id)) as late:
            assert [snapshot async for snapshot in late] == []

    run(work)


def test_a_database_that_is_away_for_a_while_costs_who_waits_nothing(
    world: Any, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services.watching import snapshots

    task_id, take, away = world.add(TaskState.RUNNING), snapshots.take, asyncio.Event()

    def sometimes(*arguments: Any) -> Any:
        if away.is_set():
            raise OperationalError("SELECT", {}, Exception("away"))
        return take(*arguments)

    monkeypatch.setattr(snapshots, "take", sometimes)

    async def work() -> None:
        async with watcher.watch(world.context, task_id) as watch:
            away.set()
            with pytest.raises(OperationalError):  # who comes now is told at once
                async with watcher.watch(world.context, task_id):
                    pass
            waiting = asyncio.create_task(watch.change(watch.now.tag, LONG_S))
            await asyncio.to_thread(change, world, task_id, stage="comparing")
            away.clear()
            found = await waiting
            assert found is not None
            assert found.stage == "comparing"

    run(work)
