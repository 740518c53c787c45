"""Counts requests in a Redis, so that all gateways count together; each by itself while it is away."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from app.domain.access import Rate, Taken
from app.limiting.local import LocalLimiter

log = logging.getLogger(__name__)

_TIMEOUT_S = 0.25
_REST_S = 5.0  # after a failure; meanwhile nobody waits for it
# The same sums as in ``local.decide``, by the one clock that all share: Redis'. Microseconds, since a script's
# numbers come back as whole ones.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window, step = tonumber(ARGV[1]), tonumber(ARGV[2])
local before = tonumber(redis.call('GET', KEYS[1]) or now)
if before < now then before = now end
local after = before + step
local early = after - now - window
if early > 1 then return {0, 0, before - now, early} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.floor((window - (after - now)) / step + 0.000001), after - now, 0}
"""


class SharedLimiter:
    """A RateLimiter over a Redis, atomic by a script. If Redis does not answer, this process counts by itself.

    Args:
        url: ``redis://…`` or ``rediss://…``.
        clock: Seconds; a parameter for tests.
    """

    waits = True

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        import redis  # the embedded mode does without

        self._redis = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, max_connections=16
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._clock = clock
        self._alone = LocalLimiter(clock)
        self._rests_until = float("-inf")
        self._lock = threading.Lock()

    def take(self, who: str, rate: Rate) -> Taken:
        """Count one request."""
        if self._clock() < self._rests_until:
            return self._alone.take(who, rate)
        try:
            said: Any = self._script(
                keys=[f"volcal:rate:{who}"], args=[round(rate.window_s * 1e6), round(rate.window_s / rate.limit * 1e6)]
            )
            allowed, remaining, reset, retry = (int(each) for each in said)
        except Exception as error:  # noqa: BLE001  (whatever the driver raises: no reason to stop anybody's work)
            with self._lock:
                self._rests_until = self._clock() + _REST_S
            log.warning("requests are counted by each gateway for itself: Redis failed (%s)", type(error).__name__)
            return self._alone.take(who, rate)
        return Taken(allowed=bool(allowed), remaining=remaining, reset_s=reset / 1e6, retry_s=retry / 1e6)
