"""Fetching and storing can be ended at any time, tell how far they are, and wait for a store that is away."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.ports import ObjectStore, Progress
from app.domain.tasks import TaskState
from app.services.runs import Verdict
from app.storage.errors import StoreUnavailable
from worker import runner
from worker.runner import run_task
from worker.runs.lookout import Lookout, TransferEnded
from worker.runs.pulse import Pulse
from worker.runs.supervisor import Ending, EndKind

pytestmark = pytest.mark.service


def idle() -> Pulse:
    """A pulse that does not beat."""
    return Pulse(lambda *_: Verdict.CONTINUE, every_s=60)


class Slow:
    """A store that moves a hundred bytes, one with each look of whoever waits, and knows no end by itself."""

    def __init__(self, store: ObjectStore, step: str, at: Callable[[int], None]) -> None:
        self._store = store
        self._step = step
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return self._crawl if name == self._step else getattr(self._store, name)

    def _crawl(self, key: str, path: Path, progress: Progress) -> None:
        for done in itertools.count():
            progress(min(done, 100))
            self._at(done)
            threading.Event().wait(0.01)


@pytest.mark.parametrize("step", ["fetch", "put"])
@pytest.mark.parametrize("reason", ["cancelled", "lease lost", "worker stops"])
def test_a_transfer_that_is_no_longer_wanted_ends_at_once(step: str, reason: str, bench: Any) -> None:
    task_id = bench.pending(content=b"x" * 100)
    stop = threading.Event()

    def act(done: int) -> None:
        if done == 40:
            bench.change(task_id, **changes) if changes else stop.set()

    changes = {"cancelled": {"cancel_requested": True}, "lease lost": {"fence": 9}}.get(reason)
    slow = replace(bench.context, store=Slow(bench.context.store, step, act))
    kind = run_task(slow, task_id, replace(bench.here, stopping=stop.is_set))
    task = bench.task(task_id)
    if reason == "cancelled":
        assert (kind, task.state, task.error["code"]) == (EndKind.CANCELLED, TaskState.KILLED, "CANCELLED")
    elif reason == "lease lost":
        assert (kind, task.state, task.fence) == (EndKind.LOST, TaskState.RUNNING, 9)
    else:
        assert (kind, task.state, task.attempts) == (EndKind.STOPPED, TaskState.PENDING, 0)
    assert bench.outputs(task_id) == []
    assert bench.leftovers() == []


@pytest.mark.parametrize(("step", "stage"), [("fetch", "fetching file 40 %"), ("put", "storing")])
def test_a_task_says_how_far_its_transfer_is(step: str, stage: str, bench: Any) -> None:
    task_id = bench.pending(content=b"x" * 100)
    seen: set[str] = set()

    def act(done: int) -> None:
        if done == 40:
            for _ in range(600):
                seen.add(bench.task(task_id).stage)
                if any(each.startswith(stage) for each in seen):
                    break
                threading.Event().wait(0.02)
            bench.change(task_id, cancel_requested=True)

    run_task(replace(bench.context, store=Slow(bench.context.store, step, act)), task_id, bench.here)
    assert any(each.startswith(stage) for each in seen)


def test_small_results_are_stored_although_the_worker_is_to_stop(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    supervise = runner.supervise

    def stop_at_the_end(*arguments: Any, **options: Any) -> Ending:
        ending = supervise(*arguments, **options)
        stop.set()
        return ending

    monkeypatch.setattr(runner, "supervise", stop_at_the_end)
    assert run_task(bench.context, bench.pending(), replace(bench.here, stopping=stop.is_set)) is EndKind.DONE


@pytest.mark.parametrize("step", ["size", "fetch", "put"])
def test_a_store_that_is_away_for_a_moment_is_waited_for(step: str, bench: Any) -> None:
    class Flaky:
        """A store one of whose methods fails twice, as while its server is started again."""

        def __init__(self, store: ObjectStore) -> None:
            self._store = store
            self._left = 2

        def __getattr__(self, name: str) -> Any:
            return self._flaky if name == step else getattr(self._store, name)

        def _flaky(self, *arguments: Any) -> Any:
            if self._left:
                self._left -= 1
                raise StoreUnavailable("nothing answers", passing=True)
            return getattr(self._store, step)(*arguments)

    flaky = replace(bench.context, store=Flaky(bench.context.store))
    assert run_task(flaky, bench.pending(), bench.here) is EndKind.DONE


def test_a_store_that_refuses_is_not_waited_for() -> None:
    calls = []

    def refuse() -> None:
        calls.append(1)
        raise StoreUnavailable("AccessDenied")

    with pytest.raises(StoreUnavailable):
        Lookout(idle(), lambda: False).insist(refuse)
    assert len(calls) == 1


def test_patience_with_a_store_that_stays_away_ends() -> None:
    def fail() -> None:
        raise StoreUnavailable("nothing answers", passing=True)

    with pytest.raises(StoreUnavailable):
        Lookout(idle(), lambda: False, patience_s=0.6).insist(fail)


def test_who_waits_for_a_store_can_be_stopped() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise StoreUnavailable("nothing answers", passing=True)

    with pytest.raises(TransferEnded) as ended:
        Lookout(idle(), lambda: len(calls) > 1).insist(fail)
    assert ended.value.kind is EndKind.STOPPED


def test_what_a_transfer_says_fits_its_place() -> None:
    pulse = idle()
    Lookout(pulse, lambda: False).progress("fetching " + "x" * 100, of=3)(2)
    stage = pulse._progress[1]
    assert len(stage) == 64
    assert stage.endswith("x 66 %")
