"""One task from lease to verdict, with a real database, a real store and real child processes."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError

from app.domain.ports import ObjectStore
from app.domain.tasks import TaskState
from app.services import janitor, runs
from pipeline.contracts import Artifact, Outcome, Run
from tests.worker.conftest import run_pid
from worker import runner
from worker.runner import run_task
from worker.runs.scratch import scratch_folder, sweep
from worker.runs.supervisor import Ending, EndKind, Limits

pytestmark = pytest.mark.service


def test_a_pending_task_is_run_and_its_results_are_stored(bench: Any) -> None:
    task_id = bench.pending(b"12345")
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    task = bench.task(task_id)
    assert (task.state, task.attempts, task.progress) == (TaskState.DONE, 1, 1.0)
    assert task.document["bytes"] == 5
    [artifact] = task.artifacts
    assert artifact["name"] == "results.json"
    assert artifact["key"] == f"tasks/{task_id}/out/1/results.json"
    assert artifact["size"] == bench.context.store.size(artifact["key"])
    assert bench.leftovers() == []


@pytest.mark.case(23)
def test_a_doorbell_that_rings_twice_runs_a_task_once(bench: Any) -> None:
    task_id = bench.pending()
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    assert run_task(bench.context, task_id, bench.here) is None
    assert run_task(bench.context, uuid4(), bench.here) is None
    assert bench.task(task_id).attempts == 1


def test_a_refusal_ends_the_task_in_error_with_nothing_left(bench: Any) -> None:
    task_id = bench.pending(fail="error")
    assert run_task(bench.context, task_id, bench.here) is EndKind.FAILED
    task = bench.task(task_id)
    assert (task.state, task.error["code"], task.error["label"]) == (TaskState.ERROR, "INPUT_INVALID", "file")
    assert bench.outputs(task_id) == []
    assert bench.leftovers() == []


def test_an_input_that_is_gone_from_the_store_is_a_storage_error_that_names_it(bench: Any) -> None:
    task_id = bench.pending(content=None)
    assert run_task(bench.context, task_id, bench.here) is EndKind.FAILED
    error = bench.task(task_id).error
    assert (error["code"], error["label"]) == ("STORAGE", "file")
    assert run_task(bench.context, bench.pending(), bench.here) is EndKind.DONE


@pytest.mark.parametrize("step", ["fetch", "put"])
def test_a_store_that_fails_is_a_storage_error_and_the_next_task_runs(step: str, bench: Any) -> None:
    class Broken:
        """A store one of whose methods does not work."""

        def __init__(self, store: ObjectStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            if name == step:
                raise ConnectionError("the store is away")
            return getattr(self._store, name)

    task_id = bench.pending()
    broken = replace(bench.context, store=Broken(bench.context.store))
    assert run_task(broken, task_id, bench.here) is EndKind.FAILED
    assert bench.task(task_id).error["code"] == "STORAGE"
    assert bench.leftovers() == []
    assert run_task(bench.context, bench.pending(), bench.here) is EndKind.DONE


def test_readers_get_names_that_end_as_the_user_named_them(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(spec: Any, **_: Any) -> Ending:
        seen.extend(path.name for path in spec.inputs.values())
        return Ending(EndKind.DONE, document={})

    monkeypatch.setattr(runner, "supervise", look)
    for filename in ("survey.LAS", "", "../../etc/passwd", "a.b;rm -rf"):
        run_task(bench.context, bench.pending(filename=filename), bench.here)
    assert seen == ["file.las", "file", "file", "file"]


@pytest.mark.parametrize("name", ["../../../secret.key", "{root}/secret.key", "nothing"])
def test_a_result_file_outside_of_the_result_folder_is_refused(
    name: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.root / "secret.key").write_text("hush")

    def lie(spec: Any, **_: Any) -> Ending:
        spec.outdir.mkdir()
        stolen = {"name": name.format(root=bench.root), "media_type": "text/plain", "title": ""}
        return Ending(EndKind.DONE, document={}, artifacts=(stolen,))

    monkeypatch.setattr(runner, "supervise", lie)
    task_id = bench.pending()
    assert run_task(bench.context, task_id, bench.here) is EndKind.FAILED
    assert bench.task(task_id).error["code"] == "INTERNAL"
    assert bench.outputs(task_id) == []


def test_a_document_that_json_cannot_say_is_a_defect(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = Ending(EndKind.DONE, document={"net": float("nan")})
    monkeypatch.setattr(runner, "supervise", lambda *_, **__: nan)
    task_id = bench.pending()
    assert run_task(bench.context, task_id, bench.here) is EndKind.FAILED
    assert bench.task(task_id).error["code"] == "INTERNAL"


def once_running(bench: Any, task_id: UUID, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as the run has reported progress."""

    def wait() -> None:
        for _ in range(600):
            if bench.task(task_id).stage == "working":
                act()
                return
            threading.Event().wait(0.05)

    (thread := threading.Thread(target=wait)).start()
    return thread


def test_cancelling_ends_a_run_and_the_task_is_killed(bench: Any) -> None:
    task_id = bench.pending(seconds=60)
    thread = once_running(bench, task_id, lambda: bench.change(task_id, cancel_requested=True))
    assert run_task(bench.context, task_id, bench.here) is EndKind.CANCELLED
    thread.join()
    task = bench.task(task_id)
    assert (task.state, task.error["code"]) == (TaskState.KILLED, "CANCELLED")
    assert bench.leftovers() == []


def test_a_task_whose_lease_went_to_another_is_left_alone(bench: Any) -> None:
    task_id = bench.pending(seconds=60)
    thread = once_running(bench, task_id, lambda: bench.change(task_id, fence=9, worker="another"))
    assert run_task(bench.context, task_id, bench.here) is EndKind.LOST
    thread.join()
    task = bench.task(task_id)
    assert (task.state, task.fence, task.worker) == (TaskState.RUNNING, 9, "another")


def test_a_worker_that_is_asked_to_stop_gives_its_task_back_unharmed(bench: Any) -> None:
    task_id = bench.pending(seconds=60)
    stop = threading.Event()
    thread = once_running(bench, task_id, stop.set)
    assert run_task(bench.context, task_id, replace(bench.here, stopping=stop.is_set)) is EndKind.STOPPED
    thread.join()
    task = bench.task(task_id)
    assert (task.state, task.attempts, task.error) == (TaskState.PENDING, 0, None)


@pytest.mark.case(22)
def test_a_killed_run_is_tried_again_and_given_up_after_the_last_attempt(bench: Any) -> None:
    def kill() -> None:
        pid = run_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    task_id = bench.pending(seconds=60)
    for state in (TaskState.PENDING, TaskState.KILLED):
        thread = once_running(bench, task_id, kill)
        assert run_task(bench.context, task_id, bench.here) is EndKind.VANISHED
        thread.join()
        janitor.reap(bench.context, datetime.now(UTC) + timedelta(milliseconds=1))
        assert bench.task(task_id).state is state
    assert bench.task(task_id).attempts == 2
    assert bench.task(task_id).error["code"] == "LOST"
    assert task_id in bench.queue.submitted


def test_only_the_attempt_that_counts_keeps_its_files(bench: Any, tmp_path: Path) -> None:
    task_id = bench.pending()
    (stray := tmp_path / "stray").write_text("of a worker that was killed")
    bench.context.store.put(f"tasks/{task_id}/out/1/results.json", stray)
    bench.change(task_id, fence=1, attempts=1)
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    assert bench.outputs(task_id) == ["2/results.json"]


def test_a_database_that_is_away_when_a_run_ends_is_waited_for(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, failures = runs.finish, iter([True, True, False])

    def flaky(*arguments: Any, **options: Any) -> bool:
        if next(failures):
            raise OperationalError("UPDATE", {}, Exception("away"))
        return finish(*arguments, **options)

    monkeypatch.setattr(runs, "finish", flaky)
    monkeypatch.setattr(runner, "_PAUSE_S", 0.01)
    task_id = bench.pending()
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    assert bench.task(task_id).state is TaskState.DONE


def test_a_lease_is_renewed_while_native_code_lets_nobody_else_run(bench: Any) -> None:
    """The lease is shorter than the run, and the run holds its interpreter's lock throughout."""
    short = replace(bench.context, policy=replace(bench.context.policy, lease_s=1.0))
    task_id = bench.pending(fail="hang")
    here = replace(bench.here, limits=Limits(timeout_s=4.0, memory_mb=2000))
    seen: list[bool] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            task = bench.task(task_id)
            if task.state is TaskState.RUNNING:
                seen.append(task.lease_until > datetime.now(UTC))

    (thread := threading.Thread(target=look)).start()
    kind = run_task(short, task_id, here)
    over.set()
    thread.join()
    assert kind is EndKind.FAILED
    assert bench.task(task_id).error["code"] == "TIMEOUT"
    assert len(seen) > 5
    assert all(seen)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    (disk := tmp_path / "disk").mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this user may not mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_a_storage_error_and_has_room_for_the_next_task(bench: Any, tiny_disk: Path) -> None:
    small = bench.with_here(scratch=tiny_disk / "scratch")
    task_id = small.pending(fail="disk")
    assert run_task(small.context, task_id, small.here) is EndKind.FAILED
    assert small.task(task_id).error["code"] == "STORAGE"
    assert shutil.disk_usage(tiny_disk).free > 7 * 2**20
    assert run_task(small.context, small.pending(), small.here) is EndKind.DONE


@pytest.mark.parametrize("by", ["a worker that starts", "the next run"])
def test_what_killed_workers_left_is_swept_up_and_what_lives_is_not(by: str, tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "alive") as alive:
        (tmp_path / "dead" / "out").mkdir(parents=True)
        (tmp_path / "dead" / ".lock").touch()
        (tmp_path / "older").mkdir()
        if by == "the next run":
            with scratch_folder(tmp_path, "next"):
                assert folders(tmp_path) == ["alive", "next"]
        else:
            assert sweep(tmp_path) == ["dead", "older"]
        assert alive.is_dir()
    assert folders(tmp_path) == []


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_the_contract_that_a_runner_gets_is_the_pipelines_own(tmp_path: Path) -> None:
    """A pipeline is a plain function of a run: what the child process does needs no child process."""
    from pipeline.registry import CATALOGUE
    from pipeline.testing import ConstantParams

    (tmp_path / "file").write_bytes(b"123")
    outcome = CATALOGUE.load("constant")(Run({"file": tmp_path / "file"}, tmp_path, seed=5), ConstantParams())
    assert isinstance(outcome, Outcome)
    assert outcome.artifacts == (Artifact("results.json", "application/json", "Result document"),)
    assert (outcome.document["bytes"], outcome.document["seed"]) == (3, 5)
