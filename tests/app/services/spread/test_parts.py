"""Each part of a task is done by one worker at a time, and nobody's who is lost counts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from app.db.models import TaskPart
from app.services import runs, tasks
from app.services.runs import Lease
from app.services.spread import parts
from app.services.spread.parts import Hold

JOB = {"function": "pipeline.testing.shared:add", "arguments": {"part": 0}, "inputs": [], "files": {"copy": "key"}}
LEASE_S = 5.0


@pytest.fixture
def lease(any_world: Any, now: datetime) -> Lease:
    """A task that a worker runs, which has announced four parts."""
    task_id = any_world.add(pipeline="shared")
    with any_world.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker="lead", now=now, lease_s=600)
        assert lease is not None
        parts.announce(work, lease, 0, [JOB] * 4)
        work.commit()
    return lease


def claim(world: Any, lease: Lease, now: datetime, worker: str = "helper", attempts: int = 2) -> Hold | None:
    with world.context.unit_of_work() as work:
        asked = {"worker": worker, "now": now, "lease_s": LEASE_S, "attempts": attempts}
        hold = parts.claim(work, lease.task_id, lease.fence, **asked)
        work.commit()
        return hold


def take(world: Any, lease: Lease, now: datetime, last: int = 3) -> int | None:
    with world.context.unit_of_work() as work:
        number = parts.take(work, lease, last, now)
        work.commit()
        return number


def count(world: Any, task_id: UUID) -> int:
    with world.context.unit_of_work(read_only=True) as work:
        return int(work.session.query(TaskPart).filter_by(task_id=task_id).count())


def test_lead_and_helpers_at_the_same_moment_never_get_the_same_part(
    any_world: Any, lease: Lease, now: datetime, together: Callable[[list[Callable[[], Any]]], list[Any]]
) -> None:
    calls: list[Callable[[], Any]] = [partial(claim, any_world, lease, now, worker) for worker in "abc"]
    *holds, mine = together([*calls, partial(take, any_world, lease, now)])
    assert sorted([*(hold.number for hold in holds), mine]) == [0, 1, 2, 3]
    assert {str(hold.job) for hold in holds} == {str(JOB)}
    assert claim(any_world, lease, now) is None


def test_the_lead_takes_no_part_beyond_those_that_it_waits_for(any_world: Any, lease: Lease, now: datetime) -> None:
    assert [take(any_world, lease, now, last=1) for _ in range(3)] == [0, 1, None]


def test_what_a_helper_left_is_found_by_the_lead(any_world: Any, lease: Lease, now: datetime) -> None:
    hold = claim(any_world, lease, now)
    assert hold is not None
    with any_world.context.unit_of_work() as work:
        assert parts.left(work, lease, hold.number) is None
        assert parts.finish(work, hold, [1, None], {"sum.txt": "a/key"})
        assert not parts.finish(work, hold, 2, {})
        assert parts.left(work, lease, hold.number) == {"result": [1, None], "files": {"sum.txt": "a/key"}}


def test_parts_of_a_lead_that_was_lost_are_void(any_world: Any, lease: Lease, now: datetime) -> None:
    hold = claim(any_world, lease, now)
    assert hold is not None
    with any_world.context.unit_of_work() as work:
        assert parts.beat(work, hold, now=now, lease_s=LEASE_S)
        assert runs.release(work, lease, now)
        fresh = runs.acquire(work, lease.task_id, worker="lead", now=now, lease_s=600)
        assert fresh is not None
        assert not parts.beat(work, hold, now=now, lease_s=LEASE_S)
        assert not parts.is_wanted(work, lease.task_id, lease.fence)
        work.commit()
    assert claim(any_world, lease, now + timedelta(seconds=LEASE_S + 1)) is None
    with any_world.context.unit_of_work() as work:
        parts.forget(work, lease.task_id, but=fresh.fence)
        assert not parts.finish(work, hold, 1, {})
        work.commit()
    assert count(any_world, lease.task_id) == 0


def test_a_task_that_is_to_stop_wants_no_help(any_world: Any, lease: Lease, now: datetime) -> None:
    hold = claim(any_world, lease, now)
    assert hold is not None
    with any_world.context.unit_of_work() as work:
        tasks.cancel_task(work, lease.task_id)
        work.commit()
    with any_world.context.unit_of_work() as work:
        assert not parts.beat(work, hold, now=now, lease_s=LEASE_S)
    assert claim(any_world, lease, now) is None


def test_a_helper_that_comes_back_from_the_dead_changes_nothing(any_world: Any, lease: Lease, now: datetime) -> None:
    later = now + timedelta(seconds=LEASE_S + 1)
    first, second = claim(any_world, lease, now, "a"), claim(any_world, lease, later, "b")
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (0, 0)
    with any_world.context.unit_of_work() as work:
        assert not parts.finish(work, first, 1, {})
        assert not parts.give_back(work, first)
        assert parts.give_back(work, second)
        work.commit()
    third = claim(any_world, lease, later, "c")
    assert third is not None
    assert third.number == 1  # the first one was tried by as many helpers as may
    assert take(any_world, lease, later) == 0


def test_a_part_that_failed_elsewhere_is_the_leads_alone(any_world: Any, lease: Lease, now: datetime) -> None:
    hold = claim(any_world, lease, now)
    assert hold is not None
    with any_world.context.unit_of_work() as work:
        assert parts.give_back(work, hold, attempts=2)
        work.commit()
    other = claim(any_world, lease, now)
    assert other is not None
    assert other.number == 1
    assert take(any_world, lease, now) == 0
