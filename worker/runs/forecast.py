"""When is a run expected to be done?

Two things tell. Earlier runs: how their time was shared out over the stages, scaled by how long this run's stages took
so far. And, where they tell nothing, or the present stage takes longer than theirs did, the run's own pace: how fast
the fraction grows that it reports. Before a tenth of the run is seen nothing is said.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from worker.runs.stages import Stages

_GROUND = 0.1  # of a run, before which a forecast would be a guess
_SHORTEST_S = 1.0


class Forecast:
    """Tells how long one run goes on.

    Args:
        stages: Of this run.
        earlier: By stage, the seconds that earlier runs spent in it, all together; empty if there were too few.
        clock: Seconds, for tests.
    """

    def __init__(
        self, stages: Stages, earlier: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stages = stages
        self._earlier = earlier
        self._clock = clock
        self._first: tuple[float, float] | None = None  # when the run first said how far it is, and what

    def at(self, fraction: float, now: datetime) -> datetime | None:
        """Return when the run is expected to be done, to the second; None if there is no ground to say so.

        Args:
            fraction: How far the run says that it is, 0 to 1.
            now: The present, UTC.
        """
        stages_s, seen, is_late = self._by_stages()
        pace_s, done = self._by_pace(fraction)
        by_stages, by_pace = seen >= _GROUND, done >= _GROUND
        if not by_stages and not by_pace:
            return None
        left_s = stages_s if by_stages else pace_s
        if is_late and by_pace:
            left_s = max(left_s, pace_s)
        return (now + timedelta(seconds=left_s + 0.5)).replace(microsecond=0)

    def _by_stages(self) -> tuple[float, float, bool]:
        """Return the seconds left as earlier runs have it, of which part of a run this is known, and if it is late."""
        total = sum(self._earlier.values())
        present, so_far = self._stages.present
        past = {name: seconds for name, seconds in self._stages.timings.items() if name in self._earlier}
        before = sum(self._earlier[name] for name in past if name != present)
        if not total or not before:
            return 0.0, 0.0, False
        scale = sum(seconds for name, seconds in past.items() if name != present) / before
        so_far += past.get(present, 0.0)
        expected = scale * self._earlier.get(present, 0.0)
        is_late = so_far > expected
        if expected and is_late:  # it takes longer than those before: so, most likely, will the rest
            scale *= so_far / expected
        to_come = sum(seconds for name, seconds in self._earlier.items() if name not in past and name != present)
        return max(expected - so_far, 0.0) + scale * to_come, before / total, is_late

    def _by_pace(self, fraction: float) -> tuple[float, float]:
        """Return the seconds left if the run goes on as it has done, and which part of it this is known from."""
        now = self._clock()
        if fraction > 0 and self._first is None:
            self._first = now, fraction
        if self._first is None:
            return 0.0, 0.0
        since, began = self._first
        done, took = fraction - began, now - since
        if done <= 0 or took < _SHORTEST_S:
            return 0.0, 0.0
        return took * (1.0 - fraction) / done, done
