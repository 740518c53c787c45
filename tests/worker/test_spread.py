"""A task whose parts several workers share: the same answer whoever does what, and whoever is lost meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psutil
import pytest

from app.domain.keys import part_key
from app.domain.tasks import TaskState
from app.services import orphans, tasks
from app.services.spread import parts
from tests.queues import RecordingQueue
from worker.runner import Surroundings, run_task
from worker.runs.supervisor import EndKind
from worker.spread.helping import help_task

pytestmark = [pytest.mark.service, pytest.mark.case(22)]

CONTENT = bytes(range(256)) * 4
SUM = sum(CONTENT)


class Friends(RecordingQueue):
    """A bell that helpers hear at once, each in a thread that outlives its run."""

    def __init__(self, bench: Any, here: Surroundings) -> None:
        super().__init__()
        self.bench = bench
        self.here = here
        self.helped: list[int] = []
        self.threads: list[threading.Thread] = []

    def call_helpers(self, task_id: UUID, fence: int, count: int, queue: str = "") -> None:
        super().call_helpers(task_id, fence, count, queue)
        for _ in range(count):
            self.threads.append(threading.Thread(target=self.help, args=(task_id, fence)))
            self.threads[-1].start()

    def help(self, task_id: UUID, fence: int) -> None:
        self.helped.append(help_task(self.bench.context, task_id, fence, self.here, linger_s=5.0))

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


@pytest.fixture
def friends(bench: Any) -> Iterator[Friends]:
    here = replace(bench.here, scratch=bench.root / "elsewhere", name="friend")
    friends = Friends(bench, here)
    bench.context = replace(bench.context, queue=friends)
    bench.here = replace(bench.here, helpers=1)
    yield friends
    friends.join()
    assert bench.leftovers() == []
    assert [path for path in here.scratch.glob("*") if path.is_dir()] == []


def helping_process(found: Callable[[psutil.Process], bool] = lambda _: True) -> psutil.Process:
    """Wait for a process that helps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            words = child.cmdline()
            if "help" in words and "--supervised" in words and found(child):
                return child
        time.sleep(0.02)
    raise AssertionError("nobody helps")


def shared_objects(bench: Any, task_id: UUID) -> list[str]:
    return [found.key for found in bench.context.store.listed(f"tasks/{task_id}/parts/")]


def rows(bench: Any, task_id: UUID) -> int:
    with bench.context.unit_of_work(read_only=True) as work:
        return int(work.session.query(parts.TaskPart).filter_by(task_id=task_id).count())


def assert_right(bench: Any, task_id: UUID, count: int) -> None:
    task = bench.task(task_id)
    assert (task.state, task.progress) == (TaskState.DONE, 1.0)
    each = [sum(CONTENT[part::count]) for part in range(count)] * 2
    assert task.document["sums"] == [SUM, SUM]
    assert [int(word) for word in task.document["text"].split()] == each
    assert (rows(bench, task_id), shared_objects(bench, task_id)) == (0, [])
    assert bench.outputs(task_id) == [f"{task.fence}/results.json"]


def test_two_workers_share_the_parts_of_a_task(bench: Any, friends: Friends) -> None:
    task_id = bench.pending(CONTENT, pipeline="shared", parts=8, seconds=0.4)
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    assert_right(bench, task_id, 8)
    friends.join()
    assert friends.called == [(task_id, 1, 1, "")] * 2
    assert 0 < sum(friends.helped) < 16


def test_a_worker_alone_does_all_parts_by_itself(bench: Any) -> None:
    for helpers in (0, 3):
        task_id = bench.pending(CONTENT, pipeline="shared", parts=3)
        assert run_task(bench.context, task_id, replace(bench.here, helpers=helpers)) is EndKind.DONE
        assert_right(bench, task_id, 3)
    assert bench.queue.called == [(task_id, 1, 2, "")] * 2


def test_a_part_whose_process_is_killed_is_done_again(bench: Any, friends: Friends) -> None:
    task_id = bench.pending(CONTENT, pipeline="shared", parts=4, seconds=0.5)
    killer = threading.Thread(target=lambda: os.kill(helping_process().pid, signal.SIGKILL))
    killer.start()
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    killer.join()
    assert_right(bench, task_id, 4)


def test_a_part_whose_whole_worker_is_gone_is_done_again_when_its_lease_runs_out(bench: Any) -> None:
    context = replace(bench.context, policy=replace(bench.context.policy, lease_s=1.0))

    class Gone(RecordingQueue):
        """A helper that takes a part and is never heard of again."""

        def call_helpers(self, task_id: UUID, fence: int, count: int, queue: str = "") -> None:
            with context.unit_of_work() as work:
                taken = parts.claim(work, task_id, fence, worker="gone", now=work.now(), lease_s=1.0, attempts=2)
                assert taken is not None
                work.commit()

    task_id = bench.pending(CONTENT, pipeline="shared", parts=3)
    here = replace(bench.here, helpers=1)
    assert run_task(replace(context, queue=Gone()), task_id, here) is EndKind.DONE
    assert_right(bench, task_id, 3)


@pytest.mark.parametrize(("how", "code"), [("error", "INPUT_INVALID"), ("exit", "INTERNAL")])
def test_a_part_that_fails_fails_as_it_does_without_helpers(bench: Any, friends: Friends, how: str, code: str) -> None:
    errors = []
    for helpers in (0, 1):
        task_id = bench.pending(CONTENT, pipeline="shared", parts=3, seconds=0.2, fail=how)
        assert run_task(bench.context, task_id, replace(bench.here, helpers=helpers)) is EndKind.FAILED
        errors.append(bench.task(task_id).error)
        assert (rows(bench, task_id), shared_objects(bench, task_id)) == (0, [])
    assert errors[0] == errors[1]
    assert errors[0]["code"] == code


def test_cancelling_ends_the_helpers_as_well(bench: Any, friends: Friends) -> None:
    task_id = bench.pending(CONTENT, pipeline="shared", parts=4, seconds=60)

    def cancel() -> None:
        helping_process()
        with bench.context.unit_of_work() as work:
            tasks.cancel_task(work, task_id)
            work.commit()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    begun = time.monotonic()
    assert run_task(bench.context, task_id, bench.here) is EndKind.CANCELLED
    canceller.join()
    friends.join()
    assert time.monotonic() - begun < 50
    assert friends.helped == [0]
    assert (rows(bench, task_id), shared_objects(bench, task_id)) == (0, [])


def test_what_a_lost_lead_has_lent_is_a_stray(bench: Any) -> None:
    task_id = bench.pending(CONTENT, pipeline="shared")
    (bench.root / "tile").write_bytes(b"1")
    bench.context.store.lend(part_key(task_id, 1, "lead/0"), bench.root / "tile")
    bench.change(task_id, state=TaskState.RUNNING, fence=1)
    later = bench.task(task_id).queued_at + timedelta(days=30)
    assert orphans.survey(bench.context, later, timedelta(days=1)).strays == []
    bench.change(task_id, fence=2)
    (stray,) = orphans.survey(bench.context, later, timedelta(days=1)).strays
    assert stray.found.key == part_key(task_id, 1, "lead/0")


def test_a_store_that_takes_nothing_leaves_the_run_to_itself(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.spread.talk._PATIENCE_S", 0.0)
    monkeypatch.setattr(type(bench.context.store), "lend", lambda *_: (_ for _ in ()).throw(OSError("full")))
    task_id = bench.pending(CONTENT, pipeline="shared", parts=3)
    assert run_task(bench.context, task_id, replace(bench.here, helpers=1)) is EndKind.DONE
    assert_right(bench, task_id, 3)
    assert bench.queue.called == [(task_id, 1, 1, "")]  # for what needs no file of the run
