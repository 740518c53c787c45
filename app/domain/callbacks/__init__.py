"""What a receiver is told when a task ends, how it knows that we said it, and when it is told again."""

import hashlib
import hmac
from enum import StrEnum

PAUSES = (1, 3, 12, 60, 180, 720, 1440, 4320)  # after each attempt, as multiples of the first pause
LONGEST_S = 6 * 3600.0
LONGEST_URL = 2048


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # to be tried, now or later
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # tried as often as is allowed, or the receiver answered 410


def pause_s(attempt: int, first_s: float) -> float:
    """Return how long to wait after an attempt that failed, seconds.

    Args:
        attempt: 1 for the first.
        first_s: The first pause, seconds.

    >>> [pause_s(attempt, 5.0) for attempt in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    [5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 21600.0, 21600.0]
    """
    return min(LONGEST_S, first_s * PAUSES[min(attempt, len(PAUSES)) - 1])


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return what ``X-Volcal-Signature`` says of a body sent at a time (Unix seconds).

    >>> signature("secret", 1700000000, b"{}")
    'v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163'
    """
    message = str(timestamp).encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
