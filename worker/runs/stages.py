"""Where the time of one run goes: each stage is logged when it begins and timed until the next."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

_WORD = re.compile(r"[a-z]{1,32}")
_MOST = 24  # stages told apart in one run; a pipeline that counts in its stages' names must not fill a database
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of a run.

    Args:
        began: Seconds since the epoch.
        ended: Seconds since the epoch.
    """

    name: str
    began: float
    ended: float


class Stages:
    """The stages of one run, by the first word of what it says it does: ``fetching pre`` is ``fetching``.

    >>> stages = Stages()
    >>> stages.tell("fetching pre"); stages.tell("fetching post"); stages.tell("measuring")
    >>> stages.end()
    >>> [stage.name for stage in stages.past]
    ['fetching', 'measuring']

    Args:
        listener: Told each stage when it begins, and again, with the seconds that it took, when it is over.
    """

    def __init__(self, listener: Callable[[str, float | None], object] = lambda _name, _seconds: None) -> None:
        self._listener = listener
        self.began = time.time()
        self._clock = time.monotonic()
        self._now = ""
        self._since = 0.0
        self._past: list[tuple[str, float, float]] = []
        self._known: set[str] = set()

    def tell(self, what: str) -> None:
        """Say what the run does now."""
        found = _WORD.match(what.lower())
        name = found.group() if found else OTHER
        if name not in self._known and len(self._known) >= _MOST:
            name = OTHER
        if name == self._now:
            return
        self._known.add(name)
        self.end()
        self._now, self._since = name, self.seconds
        log.info("stage", extra={"stage": name})
        self._listener(name, None)

    @property
    def present(self) -> tuple[str, float]:
        """The present stage, and how long it has taken so far, seconds; empty before the first and after the last."""
        now, since = self._now, self._since
        return now, (self.seconds - since if now else 0.0)

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._clock

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, in the order in which they first came."""
        found: dict[str, float] = {}
        for name, since, until in self._past:
            found[name] = found.get(name, 0.0) + until - since
        return found

    @property
    def past(self) -> list[Stage]:
        """The stages that are over."""
        return [Stage(name, self.began + since, self.began + until) for name, since, until in self._past]

    def end(self) -> None:
        """End the present stage."""
        now, self._now = self._now, ""
        if now:
            self._past.append((now, self._since, self.seconds))
            self._listener(now, self.seconds - self._since)
