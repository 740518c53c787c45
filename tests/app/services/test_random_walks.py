"""Everything that can happen to a task, in random order: what must hold always does."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from app.domain.errors import VolcalError
from app.domain.failures import cancelled
from app.services import janitor, runs, tasks, uploads
from app.services.runs import Lease

# as the product's description has it, by the first letters of the states' names
ALLOWED = {"wp", "we", "wk", "pr", "pk", "rd", "re", "rk", "rp", "ew", "ep", "kp"}
ERROR = {"code": "TIMEOUT", "label": None, "message": "m", "remedy": "r", "details": {}}


class Walk:
    """One task, and the actors around it: a user, workers (also ones from the dead), a janitor, hooks."""

    def __init__(self, world: Any, seed: int, start: datetime) -> None:
        self.world, self.random, self.now = world, Random(seed), start
        task, tickets = tasks.create_task(world.context, "four")
        self.task_id: UUID = task.id
        self.uploads = {ticket.label: ticket.id for ticket in tickets}
        self.leases: list[Lease] = []
        self.path = "w"

    def actions(self) -> list[Callable[[], object]]:
        return [
            self.deliver,
            self.deliver_all,
            self.hint,
            self.acquire,
            self.acquire,
            self.beat,
            self.end,
            self.end,
            self.user,
            self.fresh_upload,
            self.janitor,
        ]

    def work(self, step: Any, *args: Any, **values: Any) -> Any:
        with self.world.context.unit_of_work() as work:
            answer = step(work, *args, **values)
            work.commit()
            return answer

    def deliver(self) -> None:
        self.world.put(self.random.choice(list(self.uploads.values())))

    def deliver_all(self) -> None:
        for upload_id in self.uploads.values():
            self.world.put(upload_id)
        uploads.reconcile(self.world.context, self.task_id)

    def hint(self) -> None:
        uploads.finished(self.world.context, self.random.choice(list(self.uploads.values())))

    def fresh_upload(self) -> None:
        label = self.random.choice(list(self.uploads))
        self.uploads[label] = uploads.open_upload(self.world.context, self.task_id, label).id

    def acquire(self) -> None:
        lease = self.work(runs.acquire, self.task_id, worker="w", now=self.now, lease_s=10)
        if lease is not None:
            assert all(lease.fence > old.fence for old in self.leases)
            assert set(lease.inputs) == set(self.uploads)
            self.leases.append(lease)

    def beat(self) -> None:
        if self.leases:
            lease = self.random.choice([self.leases[-1], *self.leases[-2:]])
            beat = {"progress": self.random.random(), "stage": "s", "now": self.now, "lease_s": 10}
            verdict = self.work(runs.heartbeat, lease, **beat)
            assert verdict is runs.Verdict.LOST or lease is self.leases[-1]

    def end(self) -> None:
        if self.leases:
            lease = self.random.choice([self.leases[-1], *self.leases[-2:]])
            step, values = self.random.choice(
                [
                    (runs.finish, {"document": {"hulls": []}, "artifacts": []}),
                    (runs.fail, {"error": ERROR}),
                    (runs.fail, {"error": ERROR}),
                    (runs.release, {}),
                    (runs.kill, {"error": cancelled()}),
                    (runs.release, {}),
                ]
            )
            counted = self.work(step, lease, **values, now=self.now)
            assert not counted or lease is self.leases[-1]

    def user(self) -> None:
        if self.random.random() < 0.3:
            self.work(tasks.cancel_task, self.task_id)
        elif self.random.random() < 0.5:
            tasks.start_task(self.world.context, self.task_id)
        else:
            tasks.restart(self.world.context, self.task_id)

    def janitor(self) -> None:
        janitor.reap(self.world.context, self.now)

    def step(self) -> None:
        self.now += timedelta(seconds=self.random.choice([0, 1, 4, 12, 40]))
        with suppress(VolcalError):  # refused, as is right; what it left behind is checked below
            self.random.choice(self.actions())()
        self.check()

    def check(self) -> None:
        task = self.world.task(self.task_id)
        letter = task.state.value[0]
        if letter != self.path[-1]:
            assert self.path[-1] + letter in ALLOWED
            self.path += letter
        assert 0 <= task.attempts <= self.world.context.policy.max_attempts
        assert (task.lease_until is not None) == (task.state.value == "running")
        assert (task.document is not None) == (task.state.value == "done")
        assert (task.error is not None) == (task.state.value in {"error", "killed"})
        assert (task.finished_at is not None) == task.state.is_settled
        assert self.task_id in self.world.queue.submitted or letter not in "prd"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.case(9, 22, 25)
def test_whatever_happens_in_whatever_order_the_task_stays_sound(world: Any, now: datetime, seed: int) -> None:
    walk = Walk(world, seed, now)
    for _ in range(90):
        walk.step()
    assert len(walk.path) > 1


def test_the_walks_reach_every_state_and_most_moves(world: Any, now: datetime) -> None:
    paths = []
    for seed in range(100, 108):
        walk = Walk(world, seed, now)
        for _ in range(60):
            walk.step()
        paths.append(walk.path)
    moves = {path[i : i + 2] for path in paths for i in range(len(path) - 1)}
    assert set("".join(paths)) == set("wprdek")
    assert len(moves) >= 8
