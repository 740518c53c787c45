from datetime import UTC, datetime
from typing import Any

import pytest

from worker.runner import run_task
from worker.runs.forecast import Forecast
from worker.runs.stages import Stages

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EARLIER = {"fetching": 10.0, "reading": 30.0, "comparing": 50.0, "storing": 10.0}


class Clock:
    """Time as the test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("worker.runs.stages.time.monotonic", lambda: self.now)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def left(forecast: Forecast, fraction: float) -> float | None:
    found = forecast.at(fraction, NOW)
    return None if found is None else (found - NOW).total_seconds()


def test_nothing_is_said_before_there_is_ground(clock: Clock) -> None:
    stages = Stages()
    forecast = Forecast(stages, {}, clock)
    stages.tell("reading")
    for fraction in (0.0, 0.01, 0.05, 0.1):
        assert left(forecast, fraction) is None
        clock.now += 5


def test_a_run_alone_is_judged_by_its_own_pace(clock: Clock) -> None:
    forecast = Forecast(Stages(), {}, clock)
    assert left(forecast, 0.1) is None
    clock.now += 20
    assert left(forecast, 0.3) == 70  # a fifth in 20 s: seven tenths take 70 s more


def test_earlier_runs_tell_how_the_time_is_shared_out(clock: Clock) -> None:
    stages = Stages()
    forecast = Forecast(stages, EARLIER, clock)
    for stage, seconds in (("fetching", 20), ("reading", 60)):  # twice as long as those before took in all
        stages.tell(stage)
        clock.now += seconds
    stages.tell("comparing")
    assert left(forecast, 0.0) == 120
    clock.now += 40
    assert left(forecast, 0.0) == 80
    clock.now += 160  # twice as long as expected: what follows will be, too
    assert left(forecast, 0.0) == 40


def test_a_stage_that_is_late_is_judged_by_its_own_pace(clock: Clock) -> None:
    stages = Stages()
    forecast = Forecast(stages, EARLIER, clock)
    stages.tell("reading")
    assert left(forecast, 0.01) is None
    clock.now += 30
    stages.tell("comparing")
    assert left(forecast, 0.41) == 70  # as those before, whatever the own pace
    clock.now += 70  # 20 s late
    assert left(forecast, 0.51) == 98


@pytest.mark.service
def test_a_run_says_when_it_will_be_done(bench: Any) -> None:
    told: list[Any] = []

    class Watching:
        def __call__(self) -> bool:
            told.append(bench.task(task_id).eta_at)
            return False

    task_id = bench.pending(seconds=4)
    run_task(bench.context, task_id, bench.with_here(stopping=Watching()).here)
    ended = bench.task(task_id).finished_at
    known = [eta for eta in told if eta is not None]
    assert known
    assert told[0] is None
    assert abs((known[-1] - ended).total_seconds()) < 10
