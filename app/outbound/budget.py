"""How long and how much one request may take, and the error of what took more."""

import time
from dataclasses import dataclass
from typing import Literal

Reason = Literal["timeout", "too_large", "lookup", "connect", "tls", "redirects", "protocol", "status"]


class FetchFailed(OSError):
    """A request that was allowed did not lead to an answer that can be used.

    Args:
        reason: What kind of failure, for programs.
        message: One line for people; says nothing of addresses.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take, redirects included.

    Args:
        max_bytes: Size of the answer's body, as sent and as decompressed, bytes.
        total_s: From the first look-up of a name to the last byte, seconds.
        idle_s: Between two bytes, seconds.
        connect_s: Until a connection stands, for each address, seconds.
        least_rate: Bytes a second that the answer must come with on average, once ``idle_s`` is over.
        redirects: How many to follow.
    """

    max_bytes: int = 1 << 20
    total_s: float = 30.0
    idle_s: float = 10.0
    connect_s: float = 5.0
    least_rate: float = 0.0
    redirects: int = 5


_HEADERS = 1 << 20  # room for the heads of answers, and for chunk marks, beside the body


class Budget:
    """What is left of the limits of one request."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._began = time.monotonic()
        self._received = 0

    def left_s(self, most: float) -> float:
        """Return for how long to wait now, at most ``most``, seconds.

        Raises:
            FetchFailed: If the time is over, or the answer comes too slowly.
        """
        passed = time.monotonic() - self._began
        if passed >= self.limits.total_s:
            raise self.too_slow()
        if passed > self.limits.idle_s and self._received < (passed - self.limits.idle_s) * self.limits.least_rate:
            raise FetchFailed("timeout", f"The answer came with less than {self.limits.least_rate:g} bytes a second.")
        return min(most, self.limits.total_s - passed)

    def receive(self, size: int) -> None:
        """Count bytes that came over the wire.

        Raises:
            FetchFailed: If they are more than any answer within the limits needs.
        """
        self._received += size
        if self._received > 2 * self.limits.max_bytes + _HEADERS:
            raise self.too_large()

    def too_slow(self) -> FetchFailed:
        """Return the error of a request whose time is over, or to which nothing came for too long."""
        return FetchFailed(
            "timeout",
            f"No whole answer came within {self.limits.total_s:g} s, or no byte within {self.limits.idle_s:g} s.",
        )

    def too_large(self) -> FetchFailed:
        """Return the error of an answer that is larger than allowed."""
        return FetchFailed("too_large", f"The answer is larger than {self.limits.max_bytes} bytes.")
