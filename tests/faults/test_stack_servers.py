"""Each server of the full stack killed, frozen or out of reach while tasks run: said at once, mended by itself."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from tests.servers.base import wait_for
from tests.servers.stack import FullStack, Part, send

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack(workers=1, lines=("database", "store")) as stack:
        yield stack
        assert [run for worker in stack.workers for run in worker.runs()] == []


def at_work(stack: FullStack, **options: Any) -> tuple[str, psutil.Process]:
    """Submit a task and wait for it to run; return its id and its process."""
    task_id = stack.submit(**options)
    stack.running(task_id)
    return task_id, stack.workers[0].runs(task_id)[0]


def done(stack: FullStack, task_id: str, *, attempts: int = 1) -> None:
    """Wait for the end: done, after so many attempts, with one set of results in the bucket."""
    task = stack.settled(task_id)
    assert (task["status"], task["attempts"], task["error"]) == ("done", attempts, None)
    assert stack.outputs(task_id) == [f"{attempts}/results.json"]
    assert stack.results(task_id)["answer"] == 42


def ready(stack: FullStack) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"{stack.gateway.url}/readyz", timeout=30, trust_env=False)
    return answer.status_code, answer.json()


def pids(*parts: Part) -> list[int]:
    return [part.process.pid for part in parts if part.process is not None and part.process.poll() is None]


def test_a_database_that_is_killed_in_the_middle_of_a_run_loses_nothing_and_nobody_is_restarted(
    stack: FullStack,
) -> None:
    ours = pids(stack.gateway, stack.beat, *stack.workers)
    task_id, _ = at_work(stack, seconds=4)
    with stack.away(stack.postgres):
        wait_for(lambda: ready(stack)[0] == 503, "the gateway to notice")
        assert "database" in " ".join(ready(stack)[1]["problems"])
        assert httpx.get(f"{stack.gateway.url}/livez", timeout=30).status_code == 200
        for path, method in ((f"/query_task/{task_id}", "GET"), ("/create_task", "POST"), ("/api/v1/tasks", "POST")):
            answer = httpx.request(method, f"{stack.url}{path}", timeout=30, trust_env=False)
            assert answer.status_code == 503, path
            assert answer.headers["Retry-After"]
            assert "Traceback" not in answer.text
            assert "psycopg" not in answer.text
    wait_for(lambda: ready(stack)[0] == 200, "the gateway to be ready again")
    # On a busy machine the worker may need longer than a lease to find the database again; then the run is made anew.
    done(stack, task_id, attempts=stack.settled(task_id)["attempts"])
    done(stack, stack.submit())
    assert pids(stack.gateway, stack.beat, *stack.workers) == ours


def test_a_run_that_ends_while_the_database_is_away_is_recorded_once_it_is_back(stack: FullStack) -> None:
    task_id, run = at_work(stack, seconds=1.5)
    with stack.away(stack.postgres):
        psutil.wait_procs([run], timeout=30)
        wait_for(lambda: stack.outputs(task_id) == ["1/results.json"], "the results to be stored")
    done(stack, task_id)


def test_a_database_that_stands_still_makes_clients_wait_and_nobody_restart_the_gateway(stack: FullStack) -> None:
    task_id, _ = at_work(stack, seconds=4)
    stack.lines["database"].blackhole()
    with ThreadPoolExecutor(60) as pool:
        try:
            look = partial(httpx.get, f"{stack.gateway.url}/api/v1/tasks/{task_id}", timeout=60, trust_env=False)
            asking = [pool.submit(look) for _ in range(60)]  # more than the gateway has threads
            assert httpx.get(f"{stack.gateway.url}/livez", timeout=10).status_code == 200
            assert ready(stack)[0] == 503
        finally:
            stack.lines["database"].heal()
        assert {asked.result().status_code for asked in asking} <= {200, 503}  # late, or told to come again
    task = stack.settled(task_id)
    assert task["status"] == "done"
    assert task["attempts"] in {1, 2}  # whether it was in time to renew its lease
    assert stack.outputs(task_id) == [f"{task['attempts']}/results.json"]
    assert ready(stack)[0] == 200


def test_a_store_that_is_killed_while_the_files_are_fetched_is_waited_for(stack: FullStack) -> None:
    with stack.frozen(*stack.workers):
        task_id = stack.submit(b"x" * (8 << 20))
        stack.lines["store"].refuse()
    fetching = "waiting for the store"
    stack.until(task_id, lambda task: task["stage"] == fetching, fetching)
    stack.minio.kill()
    stack.minio.start()
    stack.lines["store"].heal()
    done(stack, task_id)
    assert stack.results(task_id)["bytes"] == 8 << 20


def test_a_store_that_is_killed_while_the_results_are_stored_is_waited_for(stack: FullStack) -> None:
    task_id, run = at_work(stack, seconds=1.5)
    with stack.away(stack.minio):
        psutil.wait_procs([run], timeout=30)
        stack.until(task_id, lambda task: task["stage"] == "waiting for the store", "waiting for the store")
        assert ready(stack)[0] == 503
    done(stack, task_id)
    wait_for(lambda: ready(stack)[0] == 200, "the gateway to be ready again")


def test_a_store_that_is_away_is_said_so_to_who_creates_and_who_looks_is_answered(stack: FullStack) -> None:
    task_id = stack.submit()
    done(stack, task_id)
    with stack.away(stack.minio, stack.tusd):
        answer = httpx.post(f"{stack.url}/create_task", timeout=60, trust_env=False)
        assert answer.status_code == 503
        assert "Traceback" not in answer.text
        assert stack.task(task_id)["status"] == "done"
        assert httpx.get(f"{stack.url}/api/v1/tasks", timeout=30).status_code == 200
    done(stack, stack.submit())


def test_a_store_that_stands_still_does_not_keep_the_reaper_from_lost_runs(stack: FullStack) -> None:
    waiting = [stack.create()["id"] for _ in range(5)]  # files that the reaper looks for in the store
    time.sleep(2)  # until it does: a hook on its way is faster at first
    task_id, run = at_work(stack, seconds=7)
    stack.lines["store"].blackhole()
    try:
        run.kill()
        lost = lambda task: task["attempts"] == 2 or task["status"] == "pending"  # noqa: E731
        stack.until(task_id, lost, "queued again")
    finally:
        stack.lines["store"].heal()
    done(stack, task_id, attempts=2)
    assert {stack.task(each)["status"] for each in waiting} == {"waiting"}


def test_nginx_may_be_killed_while_tasks_run(stack: FullStack) -> None:
    task_id, _ = at_work(stack, seconds=2)
    with stack.away(stack.nginx), pytest.raises(httpx.ConnectError):
        stack.task(task_id)
    done(stack, task_id)


def test_a_gateway_that_is_killed_while_tasks_run_is_missed_by_none_of_them(stack: FullStack) -> None:
    task_id, _ = at_work(stack, seconds=2)
    with stack.away(stack.gateway):
        answer = httpx.get(f"{stack.url}/query_task/{task_id}", timeout=30, trust_env=False)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    done(stack, task_id)


@pytest.mark.case(22)
def test_a_worker_that_freezes_and_wakes_after_its_lease_ran_out_writes_nothing(stack: FullStack) -> None:
    task_id, _ = at_work(stack, seconds=3)
    sleeper = stack.workers[0]
    with stack.frozen(sleeper), stack.part("work") as other:
        done(stack, task_id, attempts=2)
        before = stack.sql("SELECT * FROM tasks WHERE id = %s", task_id)
        assert other.runs(task_id) == []
    wait_for(lambda: sleeper.runs(task_id) == [] and sleeper.scratch() == [], "the sleeper to notice")
    wait_for(lambda: "lost" in sleeper.says(), "the sleeper to say so")
    assert stack.sql("SELECT * FROM tasks WHERE id = %s", task_id) == before
    assert stack.outputs(task_id) == ["2/results.json"]
    done(stack, stack.submit())


def test_three_reapers_at_once_do_no_more_than_one(stack: FullStack) -> None:
    with stack.part("beat"), stack.part("beat"):
        task_id, run = at_work(stack, seconds=2)
        run.kill()
        done(stack, task_id, attempts=2)
        task_id, run = at_work(stack, seconds=7)
        for attempt in (1, 2, 3):
            stack.running(task_id, attempt)
            stack.workers[0].runs(task_id)[0].kill()
        task = stack.settled(task_id)
        assert (task["status"], task["attempts"], task["error"]["code"]) == ("killed", 3, "LOST")


FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 20, 32 << 20))
from app.cli import main
main()
"""


def test_a_worker_whose_disk_is_full_says_so_and_goes_on(stack: FullStack) -> None:
    with stack.away(*stack.workers), stack.part("work", FULL_DISK) as worker:
        task = stack.settled(stack.submit(fail="disk"))
        assert (task["status"], task["attempts"], task["error"]["code"]) == ("error", 1, "STORAGE")
        assert task["error"]["remedy"]
        too_large = stack.submit(b"x" * (33 << 20))  # does not even fit when it is fetched
        task = stack.settled(too_large)
        assert (task["status"], task["error"]["code"]) == ("error", "STORAGE")
        assert stack.outputs(too_large) == []
        done(stack, stack.submit())
        assert worker.scratch() == []


WRONG_CLOCK = """
import datetime
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(minutes={minutes})
import worker.beat, worker.runner, worker.signs, app.observe.checks
for module in (worker.beat, worker.runner, worker.signs, app.observe.checks):
    module.datetime = Wrong
from app.cli import main
main()
"""


@pytest.mark.parametrize(("verb", "minutes"), [("work", -10), ("beat", 10)])
def test_a_workers_or_the_reapers_clock_may_be_ten_minutes_off(stack: FullStack, verb: str, minutes: int) -> None:
    replaced = stack.workers if verb == "work" else [stack.beat]
    with stack.away(*replaced), stack.part(verb, WRONG_CLOCK.format(minutes=minutes)):
        done(stack, stack.submit(seconds=3))  # not taken for lost: leases go by the database's clock


def test_a_clients_clock_may_be_ten_minutes_off(stack: FullStack) -> None:
    task_id = stack.submit()
    done(stack, task_id)
    link = httpx.get(f"{stack.url}/api/v1/tasks/{task_id}/artifacts", timeout=30).json()["artifacts"][0]["url"]
    for minutes in (-10, 10):
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        headers = {"Date": now.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        answer = httpx.get(link, headers=headers, timeout=30, trust_env=False)
        assert (answer.status_code, answer.json()["answer"]) == (200, 42)
        task = stack.create()
        url = task["uploads"]["file"]["url"]
        assert httpx.head(url, headers={**headers, "Tus-Resumable": "1.0.0"}, timeout=30).status_code == 200
        assert send(url, b"12345").status_code == 204
        done(stack, task["id"])
