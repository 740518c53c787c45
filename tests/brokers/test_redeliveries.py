"""A broker that gives a job away twice because a run takes longer than it has patience: one result all the same."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from tests.servers.base import wait_for
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

pytestmark = pytest.mark.service


def restore(url: str, after_s: float) -> None:
    """Do what any program on the same Redis does whose visibility timeout is shorter than ours: put messages back."""
    stranger = Celery("stranger", broker=url, set_as_current=False)
    stranger.conf.update(broker_transport_options={"visibility_timeout": after_s})
    with stranger.connection_for_read() as connection:
        connection.default_channel.qos.restore_visible(interval=1)
    stranger.close()


@pytest.mark.case(23)
def test_a_job_that_redis_delivers_again_while_it_runs_runs_once(redis: Redis, deploy: Callable[..., Any]) -> None:
    redis.flush()
    here = deploy(redis.url)
    other = here.one_more_worker()
    task_id = here.submit(seconds=5)
    here.running(task_id)
    restore(redis.url, after_s=0.1)
    taken = [here.worker, other]
    wait_for(lambda: all(task_id in part.log.read_text() for part in taken), "the other worker to take it")
    assert here.task(task_id)["status"] == "running"
    here.done(task_id)
    here.done(*[here.submit() for _ in range(3)])


@pytest.mark.case(23)
def test_a_run_that_outlasts_rabbitmqs_patience_ends_well_and_the_worker_goes_on(deploy: Callable[..., Any]) -> None:
    with RabbitMQ(consumer_timeout_ms=1_000, tick_ms=500) as broker:
        here = deploy(broker.url)
        worker = here.worker.process.pid
        task_id = here.submit(seconds=8)
        queued = here.submit()
        here.running(task_id)
        wait_for(lambda: lost_patience(broker), "RabbitMQ to lose its patience")
        assert here.task(task_id)["status"] == "running"
        here.done(task_id, queued)
        here.done(here.submit())
        assert here.worker.process.pid == worker
        assert here.worker.process.poll() is None


def lost_patience(broker: RabbitMQ) -> bool:
    return any("delivery acknowledgement" in path.read_text() for path in (broker.folder / "log").glob("*.log"))
