"""Counters: they grow with what is committed, with nothing else, and nobody waits in a circle."""

from collections.abc import Callable
from typing import Any

import pytest

from app.db import counters


def totals(world: Any) -> dict[str, dict[Any, float]]:
    with world.context.unit_of_work(read_only=True) as work:
        return counters.totals(work.session)


def test_what_is_committed_is_counted_and_what_is_rolled_back_is_not(any_world: Any) -> None:
    for commits in (True, True, False):
        with any_world.context.unit_of_work() as work:
            work.count("upload_bytes", 10)
            work.count("upload_bytes", 5)
            work.count("uploads", outcome="finished")
            if commits:
                work.commit()
                work.commit()  # counts nothing twice
    assert totals(any_world) == {"upload_bytes": {(): 30.0}, "uploads": {(("outcome", "finished"),): 2.0}}


def test_a_value_falls_into_the_first_bucket_that_holds_it(any_world: Any) -> None:
    with any_world.context.unit_of_work() as work:
        for seconds in (0.05, 0.1, 0.2, 1e9):
            work.observe("queue_seconds", seconds, pipeline="constant")
        work.commit()
    found = totals(any_world)
    fell = {dict(labels)["le"]: value for labels, value in found["queue_seconds_bucket"].items()}
    assert fell == {"0.1": 2.0, "0.3": 1.0, "+Inf": 1.0}
    assert found["queue_seconds_sum"][(("pipeline", "constant"),)] == pytest.approx(1e9 + 0.35)


def test_many_at_once_lose_nothing_and_never_wait_in_a_circle(
    any_world: Any, together: Callable[[list[Callable[[], Any]]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SHARDS", 1)  # everybody wants the same rows

    def busy(number: int) -> None:
        names = ["constant", "four", "volume_change"]
        for _ in range(10):
            with any_world.context.unit_of_work() as work:
                for name in names if number % 2 else reversed(names):
                    work.count("tasks_created", pipeline=name)
                work.commit()

    together([lambda n=n: busy(n) for n in range(8)])
    assert totals(any_world)["tasks_created"] == {
        (("pipeline", name),): 80.0 for name in ("constant", "four", "volume_change")
    }


def test_a_counter_that_nobody_knows_is_a_fault_of_the_caller(world: Any) -> None:
    with world.context.unit_of_work() as work:
        with pytest.raises(KeyError):
            work.count("nonsense")
        with pytest.raises(KeyError):
            work.count("uploads", colour="red")
