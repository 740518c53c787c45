"""Redis behind Sentinels: the master dies, another takes its place, and the tasks go on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers.base import wait_for
from tests.servers.redis import Redis, Replica, Sentinel

pytestmark = pytest.mark.service

PASSWORD = "a-secret-of-redis"


@dataclass
class Watched:
    """A master, a replica, and those who watch over them."""

    master: Redis
    replica: Replica
    sentinels: list[Sentinel]

    @property
    def url(self) -> str:
        first, *others = (f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://:{PASSWORD}@{first};" + ";".join(f"sentinel://{each}" for each in others) + "/0"


@pytest.fixture
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        master = stack.enter_context(Redis(password=PASSWORD))
        replica = stack.enter_context(Replica(master))
        sentinels = [stack.enter_context(Sentinel(master, quorum=2)) for _ in range(3)]
        wait_for(lambda: replica.in_step() and all(each.knows() == (1, 2) for each in sentinels), "all to know all")
        yield Watched(master, replica, sentinels)


def test_tasks_go_on_after_the_master_was_killed(watched: Watched, deploy: Callable[..., Any]) -> None:
    here = deploy(watched.url, VOLCAL_BROKER_MASTER="mymaster")
    here.done(here.submit())
    running = here.submit(seconds=5)
    here.running(running)
    queued = [here.submit() for _ in range(2)]
    watched.sentinels[0].kill()  # one of the watchers, too: the first that everybody asks
    watched.master.kill()
    queued.append(here.submit())
    here.done(running, *queued)
    assert watched.sentinels[1].master_port() == watched.replica.port
    wait_for(here.answering, "the worker to consume from the new master")
    here.done(here.submit())
    assert PASSWORD not in here.logs()
