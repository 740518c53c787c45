"""Runs that take too much, or that nobody wants any more: an end with a code, a worker that lives on."""

import os
import resource
import shutil
from collections.abc import Callable
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.service


@pytest.mark.parametrize(
    ("fail", "code"),
    [("error", "INPUT_INVALID"), ("exit", "INTERNAL"), ("memory", "OUT_OF_MEMORY"), ("hang", "TIMEOUT")],
)
@pytest.mark.case(27)
def test_a_run_that_misbehaves_ends_in_error_and_the_worker_lives_on(fail: str, code: str, service: Any) -> None:
    worker = service.part("work").pid
    task = service.settled(service.submit(fail=fail))
    assert (task["status"], task["attempts"], task["error"]["code"]) == ("error", 1, code)
    assert task["error"]["remedy"]
    assert service.settled(service.submit())["status"] == "done"
    assert service.part("work").pid == worker


@pytest.mark.case(26)
def test_cancelling_ends_a_run_with_all_that_it_started_and_frees_the_worker(service: Any) -> None:
    task_id = service.submit(fail="spawn")
    run = service.running(task_id, stage="waiting")
    started = [run, *run.children(recursive=True)]
    assert len(started) == 3  # with its guardian, and a program that ignores polite requests
    assert service.cancel(task_id) in {200, 202}
    assert service.cancel(task_id) in {200, 202}
    task = service.settled(task_id)
    assert (task["status"], task["error"]["code"]) == ("killed", "CANCELLED")
    assert psutil.wait_procs(started, timeout=15)[1] == []
    assert service.settled(service.submit())["status"] == "done"
    assert not any(name.startswith(task_id) for name in service.scratch())


def test_a_task_that_is_cancelled_while_queued_never_runs(service: Any) -> None:
    first, second = service.submit(seconds=1.5), service.submit()
    service.running(first)
    service.cancel(second)
    assert service.settled(second)["status"] == "killed"
    assert service.settled(first)["status"] == "done"
    assert service.task(second)["attempts"] == 0


def test_an_input_that_vanished_from_the_store_is_an_error_that_names_it(service: Any) -> None:
    first, second = service.submit(seconds=1.5), service.submit()
    service.running(first)
    shutil.rmtree(service.data / "objects" / "tasks" / second / "in")
    task = service.settled(second)
    assert (task["status"], task["error"]["code"], task["error"]["label"]) == ("error", "STORAGE", "file")
    assert service.settled(service.submit())["status"] == "done"


def test_a_disk_without_room_is_an_error_and_the_worker_lives_on(own_service: Any) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 2**20, 32 * 2**20))

    own_service.start(preexec_fn=small_files)
    task = own_service.settled(own_service.submit(fail="disk"))
    assert (task["status"], task["error"]["code"]) == ("error", "STORAGE")
    assert own_service.settled(own_service.submit())["status"] == "done"


SABOTAGE: dict[str, Callable[[Any], None]] = {
    "wiped": lambda queue: shutil.rmtree(queue),
    "messages lost": lambda queue: [path.unlink() for path in (queue / "messages").rglob("*.json")],  # type: ignore[dict-item]
    "messages cut": lambda queue: [os.truncate(p, 20) for p in (queue / "messages").rglob("*.json")],  # type: ignore[dict-item]
}


@pytest.mark.parametrize("how", SABOTAGE)
@pytest.mark.case(24)
def test_a_queue_that_loses_its_messages_loses_no_task(how: str, service: Any) -> None:
    first, second = service.submit(seconds=1.5), service.submit()
    service.running(first)
    SABOTAGE[how](service.data / "queue")
    service.part("beat").kill()  # a new reaper rings for all at once; the old one would, but later
    for task_id in (first, second):
        task = service.settled(task_id)
        assert (task["status"], task["attempts"]) == ("done", 1)
