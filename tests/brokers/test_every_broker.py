"""The same job on every broker: one result, whatever happens to the broker or to the worker in the middle of it."""

import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from celery import Celery

from app.queue.celery import common_settings
from tests.servers.base import Server, wait_for
from tests.servers.cut import Cut
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

KINDS: dict[str, Callable[[], Server]] = {
    "redis": lambda: Redis(password="a-secret-of-redis"),
    "rabbitmq": RabbitMQ,
}
pytestmark = [
    pytest.mark.service,
    pytest.mark.parametrize("broker", KINDS.values(), ids=KINDS, indirect=True, scope="module"),
]


def test_a_job_has_one_result(here: Any) -> None:
    here.done(*[here.submit() for _ in range(3)])


@pytest.mark.case(24)
def test_a_broker_that_is_killed_and_comes_back_loses_no_task(broker: Any, here: Any) -> None:
    worker = here.worker.process.pid
    running = here.submit(seconds=5)
    here.running(running)
    queued = [here.submit() for _ in range(3)]
    broker.kill()
    queued.append(here.submit())
    broker.start()
    here.done(running, *queued)
    wait_for(here.answering, "the worker to consume again")
    assert here.worker.process.pid == worker


def test_no_log_tells_the_brokers_password(broker: Any, here: Any) -> None:
    here.worker.log.write_text("")
    broker.kill()
    wait_for(lambda: "onnect" in here.worker.log.read_text(), "the worker to notice")
    broker.start()
    here.done(here.submit())
    assert ("a-secret-of-redis" if isinstance(broker, Redis) else "guest:guest") not in here.logs()


@pytest.mark.case(24)
def test_a_broker_that_forgets_everything_loses_no_task(broker: Any, here: Any) -> None:
    running = here.submit(seconds=4)
    here.running(running)
    queued = [here.submit() for _ in range(3)]
    broker.empty()
    here.done(running, *queued)
    here.done(here.submit())


@pytest.mark.case(22)
def test_a_worker_that_is_killed_leaves_its_task_to_the_next(here: Any) -> None:
    task_id = here.submit(seconds=2)
    here.running(task_id)
    here.worker.kill()
    waiting = here.submit()
    here.worker.start()
    here.done(task_id, attempts=2)
    here.done(waiting)
    assert here.runs() == []


def test_a_worker_that_is_asked_to_stop_gives_its_task_back(here: Any) -> None:
    task_id = here.submit(seconds=4)
    here.running(task_id)
    here.worker.process.send_signal(signal.SIGTERM)
    here.worker.process.wait(timeout=30)
    here.worker.stop()
    assert here.task(task_id)["status"] == "pending"
    here.worker.start()
    here.done(task_id)


def test_a_worker_may_start_before_its_broker(broker: Any, here: Any) -> None:
    here.worker.stop()
    broker.kill()
    task_id = here.submit()
    here.worker.log.write_text("")
    here.worker.launch()
    wait_for(lambda: "onnect" in here.worker.log.read_text(), "the worker to look for its broker")
    assert here.task(task_id)["status"] == "pending"
    broker.start()
    here.done(task_id)


@pytest.mark.parametrize("way", ["refuse", "blackhole"])
def test_while_the_broker_is_away_clients_are_answered_soon_and_the_task_waits(way: str, line: Cut, here: Any) -> None:
    here.done(here.submit())  # so there is a connection, which is about to be of no use
    getattr(line, way)()
    task = httpx.post(f"{here.gateway.url}/api/v1/tasks", json={"pipeline": "constant"}, timeout=30).json()
    started = time.monotonic()
    here.send(task)
    assert time.monotonic() - started < 10  # two tries of 2 s, on a machine that has other things to do
    assert here.task(task["id"])["status"] == "pending"
    line.heal()
    here.done(task["id"])


def test_a_broker_that_dies_twice_among_many_tasks(broker: Any, here: Any) -> None:
    tasks = [here.submit(seconds=0.2) for _ in range(6)]
    for _ in range(2):
        broker.kill()
        tasks.append(here.submit())
        broker.start()
        tasks.append(here.submit())
    here.done(*tasks)


def test_junk_in_the_queue_does_not_stop_the_worker(broker: Any, here: Any) -> None:
    stranger = Celery("stranger", broker=broker.url, set_as_current=False)
    stranger.conf.update(common_settings())
    for arguments in ([], ["no id"], [1, 2], [{"a": "b"}]):
        stranger.send_task("volcal.run_task", args=arguments)
    stranger.send_task("nobody.knows", args=[])
    with stranger.connection_for_write() as connection, connection.SimpleQueue("celery") as queue:
        queue.put("not a message of Celery", headers={"task": "volcal.run_task"})
        queue.put({"nor": "this"})
    stranger.close()
    here.done(here.submit())
