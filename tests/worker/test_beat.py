"""The reaper's loop: it goes on whatever fails, and does not take sleepers for dead."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.tasks import TaskState
from app.services import janitor
from worker import beat as module
from worker.beat import beat
from worker.runs.pulse import Pulse, Verdict

RUNNING = {"state": TaskState.RUNNING, "attempts": 1, "fence": 1}


@pytest.fixture
def beating() -> Iterator[Callable[[Any], None]]:
    """Starts reapers, and stops them at the end."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(context: Any) -> None:
        threads.append(threading.Thread(target=beat, args=(context,), kwargs={"every_s": 0.02, "stop": stop}))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def wait_for(found: Callable[[], bool]) -> None:
    for _ in range(1500):
        if found():
            return
        threading.Event().wait(0.02)
    raise AssertionError("waited in vain")


def test_pending_tasks_are_rung_for_when_the_reaper_starts(bench: Any, beating: Any) -> None:
    task_id = bench.pending()
    beating(bench.context)
    wait_for(lambda: task_id in bench.queue.submitted)


def test_a_task_whose_worker_is_lost_is_queued_again(bench: Any, beating: Any) -> None:
    task_id = bench.pending()
    bench.change(task_id, **RUNNING, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    beating(bench.context)
    wait_for(lambda: bench.task(task_id).state is TaskState.PENDING)
    assert bench.task(task_id).attempts == 1


def test_rounds_that_fail_end_nothing_and_are_complained_about_once(
    bench: Any, beating: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reap, rounds = janitor.reap, iter(range(10_000))

    def flaky(context: Any, now: datetime) -> janitor.Report:
        if next(rounds) < 3:
            raise ConnectionError("the database is away")
        return reap(context, now)

    monkeypatch.setattr(janitor, "reap", flaky)
    monkeypatch.setattr(module, "_answers", lambda _: False)
    task_id = bench.pending()
    bench.change(task_id, **RUNNING, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    with caplog.at_level("INFO"):
        beating(bench.context)
        wait_for(lambda: bench.task(task_id).state is TaskState.PENDING)
    assert [r.levelname for r in caplog.records if "a round failed" in r.getMessage()] == ["ERROR"]


@pytest.mark.parametrize("why", ["machine slept", "database was away"])
def test_a_worker_that_could_not_say_that_it_lives_is_given_time_to(
    why: str, bench: Any, beating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease has run out, but as soon as it can it renews it."""
    task_id = bench.pending()
    renewed = datetime.now(UTC) + timedelta(hours=1)
    bench.change(task_id, **RUNNING, lease_until=datetime.now(UTC) - timedelta(seconds=1))
    rounds: list[datetime] = []
    reap = janitor.reap

    def watched(context: Any, now: datetime) -> janitor.Report:
        rounds.append(now)
        if why == "database was away" and len(rounds) == 1:
            raise ConnectionError("away")
        return reap(context, now)

    class Waiting(threading.Event):
        """Renews the lease during the long wait, as the worker's heartbeat would."""

        def wait(self, timeout: float | None = None) -> bool:
            if timeout == context.policy.lease_s:
                bench.change(task_id, lease_until=renewed)
                return False
            return super().wait(timeout)

    slept = iter([3600.0])
    if why == "machine slept":
        monkeypatch.setattr(module._Clock, "slept_s", lambda _: next(slept, 0.0))
    monkeypatch.setattr(janitor, "reap", watched)
    context = replace(bench.context, policy=replace(bench.context.policy, lease_s=77.0))
    stop = Waiting()
    thread = threading.Thread(target=beat, args=(context,), kwargs={"every_s": 0.02, "stop": stop})
    thread.start()
    wait_for(lambda: len(rounds) > 3)
    stop.set()
    thread.join(timeout=30)
    task = bench.task(task_id)
    assert (task.state, task.attempts) == (TaskState.RUNNING, 1)
    assert bench.queue.submitted == []


def test_a_heartbeat_that_fails_is_tried_again_and_the_verdict_stands() -> None:
    answers = iter([ConnectionError("away"), ConnectionError("away"), Verdict.CANCEL])
    told: list[tuple[float, str]] = []

    def write(fraction: float, stage: str) -> Verdict:
        told.append((fraction, stage))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Pulse(write, every_s=0.01) as pulse:
        assert pulse.tell(0.5, "working") is Verdict.CONTINUE
        wait_for(lambda: pulse.verdict is not Verdict.CONTINUE)
        assert pulse.tell(0.6, "working") is Verdict.CANCEL
    assert told[-1] == (0.5, "working")
    assert len(told) == 3
