"""A worker is emptied before it is stopped: its run ends in peace, and it takes no other."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.stack import FullStack, wait_for

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack() as running:
        yield running


def ask(stack: FullStack, *words: str) -> str:
    """Ask the worker by Celery's own command, as the guide says."""
    worker = stack.workers[-1].worker_name
    command = [sys.executable, "-m", "celery", "--broker", stack.environment["CELERY_BROKER_URL"], *words]
    done = subprocess.run([*command, "--destination", worker], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_drained_worker_ends_its_run_and_takes_no_other(stack: FullStack) -> None:
    worker = stack.workers[-1]
    first = stack.submit(seconds=15)  # Celery's command takes seconds to begin
    stack.running(first)
    assert "no longer consuming from celery" in ask(stack, "control", "cancel_consumer", "celery")
    second = stack.submit(b"another")
    assert first in ask(stack, "inspect", "active")
    assert stack.settled(first)["status"] == "done"
    assert stack.task(first)["attempts"] == 1
    wait_for(lambda: "- empty -" in ask(stack, "inspect", "active"), "the worker to be empty")
    assert stack.task(second)["status"] == "pending"
    worker.stop()
    stack.add_worker()
    assert stack.settled(second)["status"] == "done"
    assert stack.task(second)["attempts"] == 1


def test_a_worker_that_is_just_stopped_gives_its_run_back_without_using_up_an_attempt(stack: FullStack) -> None:
    worker = stack.workers[-1]
    task = stack.submit(seconds=4)
    stack.running(task)
    worker.stop()
    assert stack.until(task, lambda found: found["status"] == "pending", "pending")["attempts"] == 0
    stack.add_worker()
    assert stack.settled(task)["status"] == "done"
    assert stack.task(task)["attempts"] == 1
