"""Counts requests in this process' memory."""

import threading
import time
from collections.abc import Callable

from app.domain.access import Rate, Taken

_MANY = 20_000


class LocalLimiter:
    """A RateLimiter by the generic cell rate algorithm: one number for each caller.

    The number is the time at which the caller's allowance is whole again. A request moves it on by
    ``window / limit``, and is refused if that leads more than a window ahead. So at most ``limit`` requests come at
    once, and as many in any window afterwards; ITU-T I.371, annex A.

    Args:
        clock: Seconds; a parameter for tests.
    """

    waits = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._whole_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, who: str, rate: Rate) -> Taken:
        """Count one request."""
        with self._lock:
            now = self._clock()
            taken, whole_at = decide(now, self._whole_at.get(who, now), rate)
            if len(self._whole_at) >= _MANY and who not in self._whole_at:
                self._forget(now)
            self._whole_at[who] = whole_at
            return taken

    def _forget(self, now: float) -> None:
        self._whole_at = {who: when for who, when in self._whole_at.items() if when > now}
        if len(self._whole_at) >= _MANY:  # a flood of addresses: those of longest ago lose their count
            kept = sorted(self._whole_at.items(), key=lambda pair: pair[1])[_MANY // 2 :]
            self._whole_at = dict(kept)


def decide(now: float, whole_at: float, rate: Rate) -> tuple[Taken, float]:
    """Return what becomes of a request, and when the caller's allowance is whole again after it.

    Args:
        now: The time, seconds.
        whole_at: When the allowance is whole, as far as known before this request.
        rate: What is allowed.
    """
    step = rate.window_s / rate.limit
    before = max(whole_at, now)
    after = before + step
    early = after - now - rate.window_s  # seconds that it comes too early
    if early > 1e-9:
        return Taken(allowed=False, remaining=0, reset_s=before - now, retry_s=early), whole_at
    left = int((rate.window_s - (after - now)) / step + 1e-6)
    return Taken(allowed=True, remaining=left, reset_s=after - now, retry_s=0.0), after
