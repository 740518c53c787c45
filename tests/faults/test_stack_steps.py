"""A pipeline of two steps on the full stack: each step from its own queue, by a worker that listens to nothing else."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.servers.base import wait_for
from tests.servers.stack import FullStack, Part, send

pytestmark = pytest.mark.service

QUEUES = ("data-processing", "model-prediction")


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack(workers=0) as stack:
        yield stack


@pytest.fixture(scope="module")
def workers(stack: FullStack) -> Iterator[dict[str, Part]]:
    parts = {queue: stack.part("work", VOLCAL_QUEUES=queue) for queue in QUEUES}
    for part in parts.values():
        part.__enter__()
    yield parts
    for part in parts.values():
        part.close()


def relay(stack: FullStack, content: bytes = b"12345", **options: object) -> str:
    task = stack.create("relay", **options)
    assert send(task["uploads"]["file"]["url"], content).status_code == 204
    return str(task["id"])


def step(stack: FullStack, task_id: str, number: int) -> dict[str, Any]:
    return stack.task(task_id)["steps"][number]


def test_each_step_is_done_by_the_worker_of_its_queue(stack: FullStack, workers: dict[str, Part]) -> None:
    task_id = relay(stack, b"123")
    task = stack.settled(task_id)
    assert (task["status"], task["progress"]) == ("done", 1.0)
    assert stack.results(task_id)["bytes"] == 3
    assert [(s["name"], s["queue"], s["status"], s["attempts"]) for s in task["steps"]] == [
        (queue, queue, "done", 1) for queue in QUEUES
    ]
    for queue, other in (QUEUES, QUEUES[::-1]):
        log = workers[queue].log.read_text()
        assert log.count("taken") == 1
        assert queue in log
        assert f'"step": "{other}"' not in log


def test_a_step_waits_for_a_worker_of_its_queue_and_says_so(stack: FullStack, workers: dict[str, Part]) -> None:
    workers[QUEUES[1]].close()
    task_id = relay(stack)
    task = stack.until(task_id, lambda seen: seen["steps"][0]["status"] == "done", "handed on")
    assert (task["status"], task["progress"], task["queue_position"]) == ("pending", 0.5, 1)
    assert task["steps"][1]["status"] == "pending"
    workers[QUEUES[1]].__enter__()
    assert stack.settled(task_id)["status"] == "done"


def test_a_step_whose_worker_is_killed_is_done_again_alone(stack: FullStack, workers: dict[str, Part]) -> None:
    task_id = relay(stack, seconds=3)
    stack.until(task_id, lambda seen: seen["steps"][1]["status"] == "running" and seen["stage"] == "working", "there")
    first = step(stack, task_id, 0)
    seen = stack.task(task_id)["progress"]
    workers[QUEUES[1]].kill()
    workers[QUEUES[1]].__enter__()
    task = stack.settled(task_id)
    assert task["status"] == "done"
    assert step(stack, task_id, 0) == first
    assert step(stack, task_id, 1)["attempts"] == 2
    assert task["progress"] >= seen >= 0.5


def test_nothing_is_left_on_the_workers(stack: FullStack, workers: dict[str, Part]) -> None:
    for part in workers.values():
        assert part.scratch() == []
        assert part.runs() == []
        assert part.process is not None
        assert psutil.pid_exists(part.process.pid)
    wait_for(lambda: stack.sql("select count(*) from steps where finished_at is null") == [(0,)], "all steps to end")
