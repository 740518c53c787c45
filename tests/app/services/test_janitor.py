import logging
import os
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.db.models import Task
from app.domain.errors import ResultExpired, TaskNotFound
from app.domain.tasks import TaskState, UploadState
from app.services import janitor, queries, runs, tasks, uploads
from app.services.janitor import Report

SECOND = timedelta(seconds=1)
OVERDUE: dict[str, Any] = {"attempts": 1, "fence": 1}


def running(world: Any, lease_until: datetime, **values: Any) -> UUID:
    found: UUID = world.add(TaskState.RUNNING, lease_until=lease_until, **{**OVERDUE, **values})
    return found


def pending(world: Any, queued_at: datetime, dispatched_at: datetime | None) -> UUID:
    found: UUID = world.add(TaskState.PENDING, queued_at=queued_at, dispatched_at=dispatched_at)
    return found


class TestLostWorkers:
    def test_a_lost_run_is_queued_again_and_the_bell_rings(self, any_world: Any, now: datetime) -> None:
        task_id = running(any_world, now - SECOND, progress=0.6, stage="comparing", worker="w")
        assert janitor.reap(any_world.context, now) == Report(requeued=1)
        task = any_world.task(task_id)
        assert (task.state, task.attempts, task.progress, task.worker) == (TaskState.PENDING, 1, 0.0, "")
        assert any_world.queue.submitted == [task_id]

    @pytest.mark.case(22)
    def test_a_run_that_is_lost_too_often_is_given_up_with_a_reason(self, any_world: Any, now: datetime) -> None:
        task_id = running(any_world, now - SECOND, attempts=3)
        assert janitor.reap(any_world.context, now) == Report(lost=1)
        task = any_world.task(task_id)
        assert (task.state, task.finished_at) == (TaskState.KILLED, now)
        assert task.error["code"] == "LOST"
        assert task.error["details"] == {"attempts": 3}
        assert task.error["remedy"]
        assert any_world.queue.submitted == []

    def test_a_task_gets_as_many_attempts_as_allowed_and_no_more(self, world: Any, now: datetime) -> None:
        task_id, attempts = world.add(), 0
        for hour in range(10):
            later = now + timedelta(hours=hour)
            with world.context.unit_of_work() as work:
                attempts += runs.acquire(work, task_id, worker="w", now=later, lease_s=15) is not None
                work.commit()
            janitor.reap(world.context, later + timedelta(minutes=1))
        assert attempts == world.context.policy.max_attempts == 3
        assert world.task(task_id).state is TaskState.KILLED

    def test_a_run_whose_lease_still_holds_is_left_alone(self, any_world: Any, now: datetime) -> None:
        task_id = running(any_world, now + SECOND)
        assert janitor.reap(any_world.context, now) == Report()
        assert any_world.task(task_id).state is TaskState.RUNNING

    def test_a_cancelled_run_whose_worker_is_gone_ends_as_cancelled(self, any_world: Any, now: datetime) -> None:
        task_id = running(any_world, now - SECOND, cancel_requested=True)
        assert janitor.reap(any_world.context, now) == Report(cancelled=1)
        task = any_world.task(task_id)
        assert (task.state, task.error["code"]) == (TaskState.KILLED, "CANCELLED")

    def test_janitors_that_work_at_the_same_time_do_each_thing_once(
        self, any_world: Any, now: datetime, together: Any
    ) -> None:
        again = [running(any_world, now - SECOND) for _ in range(4)]
        given_up = [running(any_world, now - SECOND, attempts=3) for _ in range(3)]
        silent = [pending(any_world, now - 60 * SECOND, now - 60 * SECOND) for _ in range(3)]
        reports = together([partial(janitor.reap, any_world.context, now)] * 4)
        assert sum(report.requeued for report in reports) == len(again)
        assert sum(report.lost for report in reports) == len(given_up)
        assert sorted(any_world.queue.submitted) == sorted([*again, *silent])


class TestLostBells:
    def test_a_task_that_nobody_took_is_rung_for_again(self, any_world: Any, now: datetime) -> None:
        old, fresh = (pending(any_world, now - age * SECOND, now - age * SECOND) for age in (30, 29))
        never = pending(any_world, now, None)
        assert janitor.reap(any_world.context, now) == Report(rung=2)
        assert sorted(any_world.queue.submitted) == sorted([old, never])
        assert fresh not in any_world.queue.submitted

    def test_bells_ring_ever_more_rarely_while_the_queue_is_long(self, world: Any, now: datetime) -> None:
        pending(world, now, now)
        moments = range(0, 2 * 3600, 30)
        rung_at = [second for second in moments if janitor.reap(world.context, now + second * SECOND).rung]
        gaps = [after - before for before, after in pairwise(rung_at)]
        assert rung_at[:5] == [30, 60, 120, 240, 480]
        assert max(gaps) == 600
        assert len(rung_at) < 2 * 3600 / 600 + 6

    def test_a_broker_that_comes_back_is_told_of_every_pending_task(self, any_world: Any, now: datetime) -> None:
        ids = [pending(any_world, now + n * SECOND, now) for n in range(3)]
        any_world.add(TaskState.DONE)
        assert janitor.rouse(any_world.context, now + SECOND) == 3
        assert any_world.queue.submitted == ids

    def test_a_broker_that_is_away_stops_nothing(
        self, world: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_: UUID) -> None:
            raise ConnectionError("no broker")

        task_id = running(world, now - SECOND)
        monkeypatch.setattr(world.queue, "submit", away)
        assert janitor.reap(world.context, now).requeued == 1
        monkeypatch.undo()
        assert janitor.reap(world.context, now + 31 * SECOND).rung == 1
        assert world.queue.submitted == [task_id]

    @pytest.mark.case(24)
    def test_a_broker_that_was_away_for_hours_is_told_in_the_next_round_and_asked_once_in_each(
        self, world: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[UUID] = []

        def away(task_id: UUID, *_step_and_queue: object) -> None:
            asked.append(task_id)
            raise ConnectionError("no broker")

        ids = [pending(world, now - hours * 3600 * SECOND, now - 1200 * SECOND) for hours in (3, 2, 1)]
        monkeypatch.setattr(world.queue, "submit", away)
        assert [janitor.reap(world.context, now + second * SECOND).rung for second in (0, 5, 10)] == [0, 0, 0]
        assert asked == ids[:1] * 3
        monkeypatch.undo()
        assert janitor.reap(world.context, now + 15 * SECOND).rung == 3
        assert world.queue.submitted == ids


class TestWaiting:
    @pytest.mark.case(5)
    def test_a_complete_task_whose_hook_was_lost_starts(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context, "four")
        for ticket in tickets:
            any_world.put(ticket.id)
        assert janitor.reap(any_world.context, task.created_at + 3 * SECOND) == Report(started=1)
        assert any_world.queue.submitted == [task.id]

    @pytest.mark.case(12)
    def test_a_task_that_nobody_finishes_expires_and_its_bytes_are_deleted(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context, "four")
        any_world.put(tickets[0].id)
        uploads.finished(any_world.context, tickets[0].id)
        key = any_world.upload(tickets[0].id).key
        ttl = timedelta(seconds=any_world.context.policy.upload_ttl_s)
        assert janitor.reap(any_world.context, task.created_at + ttl) == Report()
        later = task.created_at + ttl + 5 * SECOND
        assert janitor.reap(any_world.context, later) == Report(expired=1)
        found = any_world.task(task.id)
        assert (found.state, found.error["code"], found.finished_at) == (TaskState.KILLED, "EXPIRED", later)
        assert any_world.context.store.size(key) is None
        assert {any_world.upload(ticket.id).state for ticket in tickets} == {UploadState.SUPERSEDED}
        assert janitor.reap(any_world.context, later) == Report()

    @pytest.mark.case(12)
    def test_a_task_whose_bytes_still_come_in_is_not_given_up(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context, "four")
        later = task.created_at + timedelta(days=2)
        (moving,) = (any_world.root / "uploads").glob(f"**/{tickets[2].id}.part")
        os.utime(moving, (later.timestamp() - 60, later.timestamp() - 60))
        assert janitor.reap(any_world.context, later) == Report()
        assert janitor.reap(any_world.context, later + timedelta(days=1)) == Report(expired=1)

    def test_a_fresh_upload_gives_a_task_its_time_anew(self, world: Any) -> None:
        task, _ = tasks.create_task(world.context, "four")
        long_ago = task.created_at - timedelta(days=3)
        with world.context.unit_of_work() as work:
            work.session.execute(update(Task).where(Task.id == task.id).values(created_at=long_ago))
            work.commit()
        assert janitor.reap(world.context, task.created_at + 5 * SECOND).expired == 0

    def test_one_task_that_cannot_be_tended_does_not_keep_the_others_waiting(
        self, world: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = (tasks.create_task(world.context, "four") for _ in range(2))
        for ticket in good[1]:
            world.put(ticket.id)
        real = world.context.uploads.received

        def flaky(upload_id: str, *, key: str) -> Any:
            if str(bad[0].id) in key:
                raise OSError(5, "Input/output error")
            return real(upload_id, key=key)

        monkeypatch.setattr(world.context.uploads, "received", flaky)
        with caplog.at_level(logging.ERROR):
            assert janitor.reap(world.context, bad[0].created_at + 5 * SECOND).started == 1
        assert "could not tend" in caplog.text


class TestDeleted:
    def test_a_task_that_is_deleted_this_instant_is_nobodys_concern(
        self, world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        task, tickets = tasks.create_task(world.context, "four")
        for ticket in tickets:
            world.put(ticket.id)
        real = world.context.uploads.received

        def deleted_meanwhile(upload_id: str, *, key: str) -> Any:
            found = real(upload_id, key=key)
            monkeypatch.undo()
            tasks.delete_task(world.context, task.id)
            return found

        monkeypatch.setattr(world.context.uploads, "received", deleted_meanwhile)
        assert janitor.reap(world.context, task.created_at + 5 * SECOND) == Report()
        assert "could not tend" not in caplog.text

    def test_a_task_deleted_while_it_ran_is_cleared_away_once_it_has_stopped(
        self, any_world: Any, now: datetime
    ) -> None:
        task_id = running(any_world, now + SECOND)
        (source := any_world.root / "x").write_text("x")
        any_world.context.store.put(f"tasks/{task_id}/out/1/a.png", source)
        tasks.delete_task(any_world.context, task_id)
        assert janitor.reap(any_world.context, now) == Report()
        report = janitor.reap(any_world.context, now + 5 * SECOND)
        assert (report.cancelled, report.purged) == (1, 1)
        assert any_world.context.store.size(f"tasks/{task_id}/out/1/a.png") is None
        with any_world.context.unit_of_work(read_only=True) as work:
            assert work.session.get(Task, task_id) is None


class TestOldTasks:
    @pytest.mark.parametrize("state", [TaskState.DONE, TaskState.ERROR, TaskState.KILLED])
    def test_a_task_that_ended_long_ago_is_deleted_with_its_files(
        self, any_world: Any, now: datetime, state: TaskState
    ) -> None:
        world = any_world.with_policy(task_ttl_s=3600)
        old = world.add(state, finished_at=now - timedelta(seconds=3601))
        young = world.add(state, finished_at=now - timedelta(seconds=3599))
        for task_id in (old, young):
            (source := world.root / "result").write_bytes(b"numbers")
            world.context.store.put(f"tasks/{task_id}/out/1/a.json", source)
        assert janitor.reap(world.context, now) == Report(aged=1)
        with world.context.unit_of_work(read_only=True) as work, pytest.raises(ResultExpired):
            tasks.results(work, old)
        assert world.context.store.size(f"tasks/{old}/out/1/a.json") is None
        assert world.context.store.size(f"tasks/{young}/out/1/a.json") == 7
        assert janitor.reap(world.context, now) == Report()

    def test_that_a_task_was_there_is_forgotten_after_a_year(self, any_world: Any, now: datetime) -> None:
        world = any_world.with_policy(task_ttl_s=3600)
        old = world.add(TaskState.DONE, document={}, finished_at=now - timedelta(days=1))
        janitor.reap(world.context, now)
        janitor.reap(world.context, queries.utc_now() + timedelta(days=366))
        with world.context.unit_of_work(read_only=True) as work, pytest.raises(TaskNotFound):
            tasks.results(work, old)

    def test_a_task_that_is_not_over_is_kept_however_old_it_is(self, world: Any, now: datetime) -> None:
        world = world.with_policy(task_ttl_s=1)
        long_ago = now - timedelta(days=1)
        world.add(TaskState.RUNNING, created_at=long_ago, started_at=long_ago, lease_until=now + SECOND)
        assert janitor.reap(world.context, now) == Report()

    def test_nothing_is_deleted_for_its_age_unless_asked(self, world: Any, now: datetime) -> None:
        world.add(TaskState.DONE, finished_at=now - timedelta(days=10_000))
        assert janitor.reap(world.context, now) == Report()
