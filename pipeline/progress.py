"""How far a run is and how long each stage took."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from pipeline.contracts import Report


class Stopwatch:
    """Names the stages of a run, times them, and passes their progress on.

    >>> seen = []
    >>> clock = Stopwatch(lambda fraction, stage: seen.append((fraction, stage)))
    >>> with clock.stage("reading", until=0.5) as report:
    ...     report(0.5, "reading pre")
    >>> seen
    [(0.0, 'reading'), (0.25, 'reading pre'), (0.5, 'reading')]
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._done = 0.0
        self.timings: dict[str, float] = {}  # seconds by stage, in order

    @contextmanager
    def stage(self, name: str, *, until: float) -> Iterator[Report]:
        """Time one stage; the run is ``until`` (0 to 1) done when it ends.

        Yields:
            A function that reports the stage's own fraction, 0 to 1.
        """
        start, begun = self._done, perf_counter()
        self._report(start, name)

        def within(fraction: float, what: str) -> None:
            self._report(start + (until - start) * min(max(fraction, 0.0), 1.0), what or name)

        yield within
        self.timings[name] = round(perf_counter() - begun, 3)
        self._done = until
        self._report(until, name)
