"""Workers killed, brokers emptied, crashes at the worst moment, on the full stack: each task runs to one end."""

from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import psutil
import pytest
from celery import Celery

from app.queue.celery import CeleryQueue
from tests.servers.base import lives, wait_for
from tests.servers.stack import HOOK_SECRET, FullStack, Part, send

pytestmark = pytest.mark.service

TIMEOUT_S = 8


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack(workers=2, VOLCAL_RUN_TIMEOUT_S=str(TIMEOUT_S)) as stack:
        yield stack
        assert [run for worker in stack.workers for run in worker.runs()] == []
        assert [name for worker in stack.workers for name in worker.scratch()] == []


def at_work(stack: FullStack, task_id: str, attempt: int = 1) -> tuple[Part, psutil.Process]:
    """Wait until an attempt at a task is under way; return its worker and its process."""
    stack.running(task_id, attempt)

    def look() -> tuple[Part, psutil.Process] | None:
        return next(((worker, run) for worker in stack.workers for run in worker.runs(task_id)[:1]), None)

    found: tuple[Part, psutil.Process] = wait_for(look, f"the run of {task_id}")
    return found


def done(stack: FullStack, task_id: str, *, attempts: int = 1, lease: int | None = None) -> None:
    """Wait for the end: done, after so many attempts, with one set of results in the bucket."""
    task = stack.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]) == ("done", attempts, None)
    assert stack.outputs(task_id) == [f"{lease or attempts}/results.json"]
    assert stack.results(task_id)["answer"] == 42


def cancel(stack: FullStack, task_id: str) -> int:
    return httpx.post(f"{stack.url}/api/v1/tasks/{task_id}/cancel", timeout=30).status_code


def pool_of(worker: Part) -> list[psutil.Process]:
    assert worker.process is not None
    return psutil.Process(worker.process.pid).children()


VICTIMS: dict[str, Callable[[Part, psutil.Process], object]] = {
    "run": lambda _, run: run.kill(),
    "pool": lambda worker, _: [process.kill() for process in pool_of(worker)],
    "worker": lambda worker, _: worker.kill(),
}


@pytest.mark.case(22)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_task_whose_process_is_killed_is_done_at_the_next_attempt(stack: FullStack, victim: str) -> None:
    task_id = stack.submit(seconds=2)
    worker, run = at_work(stack, task_id)
    VICTIMS[victim](worker, run)
    done(stack, task_id, attempts=2)
    assert not lives(run)
    if worker.process is None:
        worker.start()
    assert worker.runs(task_id) == []


@pytest.mark.case(22)
def test_a_task_whose_run_is_killed_every_time_is_given_up_after_the_last_attempt(stack: FullStack) -> None:
    task_id = stack.submit(seconds=7)
    for attempt in (1, 2, 3):
        at_work(stack, task_id, attempt)[1].kill()
    task = stack.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]["code"]) == ("killed", 3, "LOST")
    assert task["error"]["remedy"]
    assert stack.outputs(task_id) == []


@pytest.mark.case(23)
def test_a_run_that_outlasts_redis_patience_is_delivered_again_and_runs_once(stack: FullStack) -> None:
    task_id = stack.submit(seconds=4)
    worker, _ = at_work(stack, task_id)
    other = next(part for part in stack.workers if part is not worker)
    # What Redis' client does once the visibility timeout is over: any other program with a shorter one does it for us.
    stranger = Celery("stranger", broker=stack.broker.url, set_as_current=False)
    stranger.conf.update(broker_transport_options={"visibility_timeout": 0.1})
    with stranger.connection_for_read() as connection:
        connection.default_channel.qos.restore_visible(interval=1)
    stranger.close()
    wait_for(lambda: task_id in other.says(), "the second delivery")
    assert stack.task(task_id)["status"] == "running"
    done(stack, task_id)


@pytest.mark.case(24)
def test_a_redis_that_is_killed_and_comes_back_loses_no_task_and_needs_no_restart(stack: FullStack) -> None:
    workers = [worker.process and worker.process.pid for worker in stack.workers]
    running = [stack.submit(seconds=3) for _ in range(2)]
    for task_id in running:
        at_work(stack, task_id)
    queued = [stack.submit() for _ in range(2)]
    with stack.away(stack.broker):
        queued.append(stack.submit())  # whose message nobody takes: the client is answered all the same
    for task_id in [*running, *queued, stack.submit()]:
        done(stack, task_id)
    assert [worker.process and worker.process.pid for worker in stack.workers] == workers


@pytest.mark.case(24)
def test_a_redis_that_forgets_everything_loses_no_task(stack: FullStack) -> None:
    running = [stack.submit(seconds=3) for _ in range(2)]
    for task_id in running:
        at_work(stack, task_id)
    queued = [stack.submit() for _ in range(3)]
    stack.broker.flush()  # type: ignore[union-attr]
    for task_id in [*running, *queued, stack.submit()]:
        done(stack, task_id)


CRASH = """
import os, signal
from app.cli import main
from app.queue.celery import CeleryQueue
send = CeleryQueue.submit
def crash(queue, *told):
    {first}
    os.kill(os.getpid(), signal.SIGKILL)
CeleryQueue.submit = crash
main()
"""


@pytest.mark.case(25)
@pytest.mark.parametrize("first", ["pass", "send(queue, *told)"], ids=["before the message", "after the message"])
def test_a_gateway_that_dies_between_its_commit_and_its_answer_starts_the_task_once(
    stack: FullStack, first: str
) -> None:
    task_id = stack.submit(fail="error")
    assert stack.settled(task_id)["error"]["code"] == "INPUT_INVALID"
    with stack.part("serve", CRASH.format(first=first)) as gateway, pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{gateway.url}/api/v1/tasks/{task_id}/restart", json={"options": {}}, timeout=30, trust_env=False)
    done(stack, task_id, attempts=1, lease=2)


@pytest.mark.case(25)
def test_a_message_that_comes_before_its_task_is_ready_does_nothing(stack: FullStack) -> None:
    task = stack.create()
    bell = CeleryQueue(stack.broker.url)
    for task_id in (UUID(task["id"]), UUID(int=1)):  # one that waits for its file, and one that does not exist
        bell.submit(task_id)
    wait_for(lambda: any(str(UUID(int=1)) in worker.says() for worker in stack.workers), "both to be taken")
    assert stack.task(task["id"])["status"] == "waiting"
    assert send(task["uploads"]["file"]["url"], b"12345").status_code == 204
    done(stack, task["id"])
    assert not any("Traceback" in worker.says().partition(str(UUID(int=1)))[2][:300] for worker in stack.workers)


@pytest.mark.case(25)
def test_a_message_that_comes_ten_times_runs_its_task_once(stack: FullStack) -> None:
    task_id = stack.submit(seconds=1)
    bell = CeleryQueue(stack.broker.url)
    for _ in range(10):
        bell.submit(UUID(task_id))
    done(stack, task_id)
    done(stack, stack.submit())
    done(stack, task_id)


@pytest.mark.case(26)
def test_cancelling_ends_a_run_with_all_its_children_and_the_next_task_is_not_touched(stack: FullStack) -> None:
    task_id, neighbour = stack.submit(fail="spawn"), stack.submit(seconds=4)
    stack.until(task_id, lambda task: task["stage"] == "waiting", "with its children")
    worker, run = next((part, part.runs(task_id)[0]) for part in stack.workers if part.runs(task_id))
    family = [run, *run.children(recursive=True)]
    assert len(family) == 3  # with its guardian, and a program that ignores polite requests
    assert cancel(stack, task_id) == 202
    assert cancel(stack, task_id) in (202, 409)  # it may be over by then
    task = stack.settled(task_id)
    assert (task["status"], task["error"]["code"]) == ("killed", "CANCELLED")
    assert cancel(stack, task_id) == 409
    assert psutil.wait_procs(family, timeout=15)[1] == []
    wait_for(lambda: not any(name.startswith(task_id) for name in worker.scratch()), "its folder to go")
    assert stack.outputs(task_id) == []
    done(stack, neighbour)
    done(stack, stack.submit())


@pytest.mark.case(27)
def test_a_run_that_hangs_in_native_code_ends_in_time_and_its_worker_is_free(stack: FullStack) -> None:
    workers = [worker.process and worker.process.pid for worker in stack.workers]
    hanging = [stack.submit(fail="hang") for _ in range(2)]  # both workers are taken
    queued = stack.submit()
    for task_id in hanging:
        task = stack.settled(task_id)
        assert (task["status"], task["attempts"], task["error"]["code"]) == ("error", 1, "TIMEOUT")
        assert task["error"]["details"]["limit_s"] == TIMEOUT_S
    done(stack, queued)
    assert [worker.process and worker.process.pid for worker in stack.workers] == workers


@pytest.mark.case(9)
def test_what_comes_late_for_a_task_that_is_done_changes_nothing(stack: FullStack) -> None:
    task = stack.create()
    url = task["uploads"]["file"]["url"]
    assert send(url, b"12345").status_code == 204
    done(stack, task["id"])
    before = stack.task(task["id"])
    said = {"ID": url.partition("/files/")[2], "MetaData": {"task_id": task["id"], "label": "file"}}
    for kind in ("post-receive", "pre-finish", "post-finish"):
        event = {"Type": kind, "Event": {"Upload": said}}
        answer = httpx.post(f"{stack.gateway.url}/tusd_hook?secret={HOOK_SECRET}", json=event, timeout=30)
        assert answer.status_code == 200
    assert stack.task(task["id"]) == before
    done(stack, task["id"])
