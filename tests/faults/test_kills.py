"""Kill -9 of any part of a service: each task finishes or is given up with a reason, and nothing is left behind."""

from collections.abc import Callable
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.service


def finished_at_second_attempt(service: Any, task_id: str) -> None:
    task = service.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]) == ("done", 2, None)
    assert service.outputs(task_id) == ["2/results.json"]
    assert service.processes(task_id) == []
    assert not any(name.startswith(task_id) for name in service.scratch())


VICTIMS: dict[str, Callable[[Any, psutil.Process], list[psutil.Process]]] = {
    "run": lambda _, run: [run],
    "pool": lambda service, _: [service.pool()],
    "worker": lambda service, _: [service.part("work")],
    "worker tree": lambda service, run: [service.part("work"), service.pool(), run],
}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.case(22)
def test_a_task_whose_process_is_killed_finishes_at_the_next_attempt(victim: str, service: Any) -> None:
    task_id = service.submit(seconds=1.5)
    run = service.running(task_id)
    for process in VICTIMS[victim](service, run):
        process.kill()
    finished_at_second_attempt(service, task_id)


@pytest.mark.case(22)
def test_a_task_that_kills_its_run_every_time_is_given_up_with_a_reason(service: Any) -> None:
    task_id = service.submit(seconds=10)
    for attempt in (1, 2):
        service.running(task_id, attempt).kill()
    task = service.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]["code"]) == ("killed", 2, "LOST")
    assert service.outputs(task_id) == []


@pytest.mark.parametrize("part", ["serve", "beat"])
def test_a_part_that_is_killed_comes_back_and_no_task_notices(part: str, service: Any) -> None:
    victim = service.part(part)
    task_id = service.submit(seconds=1.0)
    service.running(task_id)
    victim.kill()
    victim.wait(timeout=30)
    assert service.part(part).pid != victim.pid
    task = service.settled(task_id)
    assert (task["status"], task["attempts"]) == ("done", 1)
