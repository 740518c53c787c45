"""A pipeline of several steps: each in its turn, from its own queue, tried again by itself."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.db.models import StepRun
from app.domain.tasks import TaskState
from app.services import janitor, orphans, runs, steps, tasks
from pipeline.registry import CATALOGUE
from worker.runner import run_task
from worker.runs.supervisor import EndKind

pytestmark = pytest.mark.service

QUEUES = ("data-processing", "model-prediction")


def step_runs(bench: Any, task_id: UUID) -> list[StepRun]:
    with bench.context.unit_of_work(read_only=True) as work:
        return list(work.session.query(StepRun).filter_by(task_id=task_id).order_by(StepRun.number))


def views(bench: Any, task_id: UUID) -> list[tuple[str, str, int]]:
    with bench.context.unit_of_work(read_only=True) as work:
        found = tasks.describe(work, CATALOGUE, task_id).steps
        return [(step.name, str(step.state), 0 if step.run is None else step.run.attempts) for step in found]


def test_the_first_step_hands_on_to_the_queue_of_the_second_which_answers(bench: Any) -> None:
    task_id = bench.pending(b"12345", pipeline="relay")
    assert views(bench, task_id) == [(QUEUES[0], "pending", 0), (QUEUES[1], "pending", 0)]
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    task = bench.task(task_id)
    assert (task.state, task.step, task.queue, task.progress) == (TaskState.PENDING, 1, QUEUES[1], 0.5)
    assert (task.document, task.artifacts) == (None, None)
    assert bench.queue.rung == [(task_id, 1, QUEUES[1])]
    assert bench.outputs(task_id) == ["1/size.txt"]
    assert views(bench, task_id) == [(QUEUES[0], "done", 1), (QUEUES[1], "pending", 0)]

    assert run_task(bench.context, task_id, bench.here) is None  # a late bell of the first step
    assert run_task(bench.context, task_id, bench.here, step=1) is EndKind.DONE
    task = bench.task(task_id)
    assert (task.state, task.progress, task.document["bytes"]) == (TaskState.DONE, 1.0, 5)
    assert bench.outputs(task_id) == ["2/results.json"]  # what was handed on is of no more use
    assert views(bench, task_id) == [(QUEUES[0], "done", 1), (QUEUES[1], "done", 1)]
    assert bench.leftovers() == []
    first, second = step_runs(bench, task_id)
    assert first.started_at <= first.finished_at <= second.started_at <= second.finished_at <= task.finished_at
    assert task.started_at == first.started_at


def test_a_step_that_fails_is_run_again_alone_and_from_the_start_with_other_options(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay", fail="error", fail_in=1)
    run_task(bench.context, task_id, bench.here)
    assert run_task(bench.context, task_id, bench.here, step=1) is EndKind.FAILED
    assert views(bench, task_id) == [(QUEUES[0], "done", 1), (QUEUES[1], "error", 1)]
    assert step_runs(bench, task_id)[1].error["code"] == "INPUT_INVALID"
    assert bench.outputs(task_id) == ["1/size.txt"]

    tasks.restart(bench.context, task_id)
    task = bench.task(task_id)
    assert (task.state, task.step, task.attempts, task.progress) == (TaskState.PENDING, 1, 0, 0.5)
    assert run_task(bench.context, task_id, bench.here, step=1) is EndKind.FAILED

    tasks.restart(bench.context, task_id, {"fail": ""})
    task = bench.task(task_id)
    assert (task.step, task.queue, task.progress) == (0, QUEUES[0], 0.0)
    assert views(bench, task_id) == [(QUEUES[0], "pending", 0), (QUEUES[1], "pending", 0)]
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    assert run_task(bench.context, task_id, bench.here, step=1) is EndKind.DONE
    assert bench.task(task_id).document["bytes"] == 5


def test_each_step_has_its_own_attempts_and_progress_never_falls(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay")
    run_task(bench.context, task_id, bench.here)
    for lost in range(bench.context.policy.max_attempts):
        with bench.context.unit_of_work() as work:
            now = work.now()
            lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=5, step=1)
            assert lease is not None
            assert lease.attempt == lost + 1
            assert steps.begin(work, lease, now).artifacts[0]["name"] == "size.txt"
            runs.heartbeat(work, lease, progress=0.75, stage="x", now=now, lease_s=5)
            work.commit()
        janitor.reap(bench.context, now + timedelta(seconds=6))
        assert bench.task(task_id).progress == 0.75
    task = bench.task(task_id)
    assert (task.state, task.error["code"]) == (TaskState.KILLED, "LOST")
    assert bench.queue.rung[-1] == (task_id, 1, QUEUES[1])  # the first loss rang for this step


def test_the_janitor_rings_where_the_step_waits(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay")
    run_task(bench.context, task_id, bench.here)
    bench.change(task_id, dispatched_at=None)
    bench.queue.rung.clear()
    janitor.rouse(bench.context, bench.task(task_id).queued_at)
    assert bench.queue.rung == [(task_id, 1, QUEUES[1])]


def test_what_was_handed_on_is_no_orphan_while_it_is_needed(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay")
    run_task(bench.context, task_id, bench.here)
    later = bench.task(task_id).queued_at + timedelta(days=30)
    found = orphans.survey(bench.context, later, timedelta(days=1))
    assert bench.outputs(task_id) == ["1/size.txt"]
    assert found.strays == []


def test_a_task_that_is_to_be_stopped_is_not_handed_on(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay")
    with bench.context.unit_of_work() as work:
        now = work.now()
        lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=5)
        steps.begin(work, lease, now)
        tasks.cancel_task(work, task_id)
        known = CATALOGUE["relay"].steps
        assert not steps.hand_on(work, lease, known, queue=bench.queue, document={}, artifacts=[], now=now)
        work.commit()
    assert bench.task(task_id).state is TaskState.KILLED
    assert bench.queue.rung == []


def test_files_of_the_step_before_that_are_gone_are_a_storage_error_with_a_remedy(bench: Any) -> None:
    task_id = bench.pending(pipeline="relay")
    run_task(bench.context, task_id, bench.here)
    bench.context.store.delete_prefix(f"tasks/{task_id}/out/1/")
    assert run_task(bench.context, task_id, bench.here, step=1) is EndKind.FAILED
    error = bench.task(task_id).error
    assert error["code"] == "STORAGE"
    assert "size.txt" in error["message"]
