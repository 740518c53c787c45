from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.db.models import Task
from app.domain.errors import (
    IllegalTransition,
    InputsMissing,
    NotReady,
    ObjectNotFound,
    OptionsInvalid,
    PipelineNotFound,
    TaskNotFound,
)
from app.domain.tasks import TaskState, UploadState
from app.services import tasks, uploads

FINAL = [TaskState.DONE, TaskState.ERROR, TaskState.KILLED]


def complete(world: Any) -> UUID:
    """A task whose files have all been recorded, so that it is pending."""
    task, tickets = tasks.create_task(world.context, "four")
    for ticket in tickets:
        world.put(ticket.id)
        uploads.finished(world.context, ticket.id)
    world.queue.submitted.clear()
    return task.id


def force(world: Any, task_id: UUID, state: TaskState, **values: Any) -> None:
    with world.context.unit_of_work() as work:
        task = work.session.get(type(world.task(task_id)), task_id)
        task.state = state
        for name, value in values.items():
            setattr(task, name, value)
        work.commit()


class TestCreating:
    def test_a_new_task_waits_for_the_required_files(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context)
        assert [ticket.label for ticket in tickets] == ["pre", "post", "shp", "shx"]
        with any_world.context.unit_of_work(read_only=True) as work:
            view = tasks.describe(work, any_world.context.catalogue, task.id)
        assert (view.task.state, view.missing) == (TaskState.WAITING, ["pre", "post", "shp", "shx"])

    def test_options_are_stored_as_the_pipeline_reads_them(self, world: Any) -> None:
        task, _ = tasks.create_task(world.context, "volume_change", {"min_score": "0.5"})
        stored = world.task(task.id).options
        assert stored["min_score"] == 0.5
        assert stored["registration"] == "auto"

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"cell": -1}, "cell"),
            ({"cell": float("nan")}, "cell"),
            ({"cell": float("inf")}, "options"),
            ({"registration": "magic"}, "registration"),
            ({"no_such": 1}, "no_such"),
        ],
    )
    def test_options_that_do_not_fit_are_refused_by_name(self, world: Any, options: Any, field: str) -> None:
        with pytest.raises(OptionsInvalid) as caught:
            tasks.create_task(world.context, "volume_change", options)
        assert [problem["field"] for problem in caught.value.problems] == [field]

    def test_a_pipeline_that_does_not_exist_is_refused(self, world: Any) -> None:
        with pytest.raises(PipelineNotFound, match="known: constant, four, volume_change"):
            tasks.create_task(world.context, "nothing")

    def test_uploads_of_a_task_that_could_not_be_stored_are_forgotten(
        self, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forgotten: list[str] = []
        monkeypatch.setattr(world.context.uploads, "discard", forgotten.append)
        monkeypatch.setattr("app.db.session.Session.commit", partial(_fail))
        with pytest.raises(ConnectionError):
            tasks.create_task(world.context, "four")
        assert len(forgotten) == 4


def _fail(*_: object) -> None:
    raise ConnectionError("the database is away")


class TestStarting:
    def test_starting_too_early_lists_what_is_missing(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context, "four")
        any_world.put(tickets[1].id)
        with pytest.raises(InputsMissing) as caught:
            tasks.start_task(any_world.context, task.id)
        assert caught.value.missing == ["pre", "shp", "shx"]
        assert any_world.queue.submitted == []

    def test_starting_finds_files_whose_hook_was_lost(self, any_world: Any) -> None:
        task, tickets = tasks.create_task(any_world.context, "four")
        for ticket in tickets:
            any_world.put(ticket.id)
        assert tasks.start_task(any_world.context, task.id) is TaskState.PENDING
        assert any_world.queue.submitted == [task.id]

    @pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.RUNNING])
    def test_starting_what_is_on_its_way_changes_nothing(self, any_world: Any, state: TaskState) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, state, attempts=2)
        assert tasks.start_task(any_world.context, task_id) is state
        assert (any_world.task(task_id).attempts, any_world.queue.submitted) == (2, [])

    def test_a_task_that_is_done_cannot_be_started(self, any_world: Any) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, TaskState.DONE)
        with pytest.raises(IllegalTransition):
            tasks.start_task(any_world.context, task_id)

    @pytest.mark.parametrize("state", [TaskState.ERROR, TaskState.KILLED])
    def test_what_failed_can_be_run_again_with_all_its_attempts(self, any_world: Any, state: TaskState) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, state, attempts=3, error={"code": "LOST"}, progress=0.4)
        assert tasks.start_task(any_world.context, task_id) is TaskState.PENDING
        task = any_world.task(task_id)
        assert (task.attempts, task.error, task.progress) == (0, None, 0.0)
        assert any_world.queue.submitted == [task_id]

    def test_a_task_whose_last_file_comes_this_instant_is_started_by_whoever_brought_it(
        self, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task, tickets = tasks.create_task(world.context, "four")
        with world.context.unit_of_work() as work:
            for upload in work.session.get(Task, task.id).uploads:
                upload.state = UploadState.FINISHED
            work.commit()
        assert len(tickets) == 4
        monkeypatch.setattr(uploads, "reconcile", lambda *_: TaskState.WAITING)
        assert tasks.start_task(world.context, task.id) is TaskState.WAITING
        assert world.queue.submitted == []

    def test_what_was_refused_for_a_bad_file_needs_that_file_first(self, world: Any) -> None:
        task, tickets = tasks.create_task(world.context)
        world.put(tickets[0].id, b"")
        uploads.finished(world.context, tickets[0].id)
        with pytest.raises(InputsMissing) as caught:
            tasks.start_task(world.context, task.id)
        assert caught.value.missing == ["pre", "post", "shp", "shx"]

    def test_restarting_may_change_the_options(self, any_world: Any) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, TaskState.ERROR)
        tasks.restart(any_world.context, task_id, {"seconds": 2})
        assert any_world.task(task_id).options == {"seconds": 2.0, "fail": ""}

    def test_restarting_with_bad_options_changes_nothing(self, any_world: Any) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, TaskState.ERROR)
        with pytest.raises(OptionsInvalid):
            tasks.restart(any_world.context, task_id, {"seconds": -2})
        assert any_world.task(task_id).state is TaskState.ERROR

    @pytest.mark.parametrize("state", [TaskState.WAITING, TaskState.PENDING, TaskState.RUNNING, TaskState.DONE])
    def test_only_what_ended_badly_can_be_restarted(self, any_world: Any, state: TaskState) -> None:
        with pytest.raises(IllegalTransition):
            tasks.restart(any_world.context, any_world.add(state))

    def test_many_who_restart_at_once_queue_the_task_once(self, any_world: Any, together: Any) -> None:
        task_id = complete(any_world)
        force(any_world, task_id, TaskState.KILLED)
        together([partial(tasks.start_task, any_world.context, task_id)] * 6)
        assert any_world.queue.submitted == [task_id]


class TestCancelling:
    @pytest.mark.parametrize("state", [TaskState.WAITING, TaskState.PENDING])
    def test_what_no_worker_has_ends_at_once(self, any_world: Any, state: TaskState) -> None:
        task_id = any_world.add(state)
        with any_world.context.unit_of_work() as work:
            assert tasks.cancel_task(work, task_id) is TaskState.KILLED
            work.commit()
        assert any_world.task(task_id).error["code"] == "CANCELLED"

    def test_what_runs_is_asked_to_stop_and_asking_twice_is_harmless(self, any_world: Any) -> None:
        task_id = any_world.add(TaskState.RUNNING)
        for _ in range(2):
            with any_world.context.unit_of_work() as work:
                assert tasks.cancel_task(work, task_id) is TaskState.RUNNING
                work.commit()
        assert any_world.task(task_id).cancel_requested

    @pytest.mark.parametrize("state", FINAL)
    def test_what_is_over_cannot_be_cancelled(self, any_world: Any, state: TaskState) -> None:
        task_id = any_world.add(state)
        with any_world.context.unit_of_work() as work, pytest.raises(IllegalTransition):
            tasks.cancel_task(work, task_id)


class TestLooking:
    def test_the_queue_position_counts_who_is_served_before(self, any_world: Any, now: datetime) -> None:
        ids = [any_world.add(queued_at=now + timedelta(seconds=n)) for n in range(3)]
        any_world.add(TaskState.RUNNING, queued_at=now - timedelta(hours=1))
        with any_world.context.unit_of_work(read_only=True) as work:
            views = [tasks.describe(work, any_world.context.catalogue, task_id) for task_id in ids]
        assert [view.queue_position for view in views] == [1, 2, 3]

    def test_lists_go_from_new_to_old_and_pages_neither_skip_nor_repeat(self, any_world: Any, now: datetime) -> None:
        ids = [any_world.add(created_at=now + timedelta(seconds=n // 3)) for n in range(10)]  # ties on purpose
        seen: list[UUID] = []
        before = None
        with any_world.context.unit_of_work(read_only=True) as work:
            while page := tasks.list_tasks(work, before=before, limit=3):
                seen += [task.id for task in page]
                before = (page[-1].created_at, page[-1].id)
            newest = tasks.list_tasks(work, limit=1)[0].created_at
        assert sorted(seen) == sorted(ids)
        assert len(seen) == 10
        assert newest == now + timedelta(seconds=3)

    @pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.DONE])
    def test_results_exist_once_the_task_is_done(self, world: Any, state: TaskState) -> None:
        task_id = world.add(state)
        with world.context.unit_of_work(read_only=True) as work, pytest.raises(NotReady, match=f"is {state}"):
            tasks.results(work, task_id)

    def test_a_file_is_found_by_its_name_only(self, world: Any) -> None:
        task = world.task(world.add(TaskState.DONE, artifacts=[{"name": "a/b.png", "key": "k"}]))
        assert tasks.artifact(task, "a/b.png")["key"] == "k"
        with pytest.raises(ObjectNotFound):
            tasks.artifact(task, "a/../a/b.png")


class TestDeleting:
    def test_a_deleted_task_is_gone_with_its_files(self, any_world: Any) -> None:
        task_id = complete(any_world)
        key = f"tasks/{task_id}/out/1/a"
        (source := any_world.root / "x").write_text("x")
        any_world.context.store.put(key, source)
        tasks.delete_task(any_world.context, task_id)
        assert any_world.context.store.size(key) is None
        with any_world.context.unit_of_work(read_only=True) as work, pytest.raises(TaskNotFound):
            tasks.describe(work, any_world.context.catalogue, task_id)
        with pytest.raises(TaskNotFound):
            tasks.delete_task(any_world.context, task_id)

    def test_a_running_task_is_out_of_sight_at_once(self, any_world: Any) -> None:
        task_id = any_world.add(TaskState.RUNNING)
        tasks.delete_task(any_world.context, task_id)
        with pytest.raises(TaskNotFound):
            tasks.start_task(any_world.context, task_id)
        with any_world.context.unit_of_work(read_only=True) as work:
            assert tasks.list_tasks(work) == []

    def test_what_was_not_deleted_is_never_cleared_away(self, world: Any) -> None:
        with pytest.raises(TaskNotFound):
            tasks.purge(world.context, task_id := world.add())
        assert task_id is not None

    def test_clearing_away_twice_is_harmless(self, world: Any) -> None:
        tasks.purge(world.context, uuid4())
        assert world.queue.submitted == []
