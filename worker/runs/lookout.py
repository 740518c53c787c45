"""Is a transfer still wanted, and how far is it?"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from app.domain.ports import Progress
from app.services.runs import Verdict
from app.storage.errors import StoreUnavailable
from worker.runs.pulse import Pulse
from worker.runs.supervisor import EndKind

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST = 64  # characters of a stage
_PATIENCE_S = 60.0
_PAUSE_S = 0.5


class TransferEnded(Exception):
    """The run is to end while its files are moved."""

    def __init__(self, kind: EndKind) -> None:
        super().__init__(kind)
        self.kind = kind


class Lookout:
    """Looks out, during transfers, for reasons to end, and says how far they are.

    Args:
        pulse: The run's heartbeat.
        stopping: Whether the worker was asked to stop.
        reached: Fraction of the run that is done meanwhile.
        grace_s: How long a worker that is to stop may go on, seconds.
        patience_s: How long a store that is away is waited for, seconds.
    """

    def __init__(
        self,
        pulse: Pulse,
        stopping: Callable[[], bool],
        *,
        reached: float = 0.0,
        grace_s: float = 0.0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._pulse = pulse
        self._stopping = stopping
        self._reached = reached
        self._grace_s = grace_s
        self._patience_s = patience_s
        self._stop_seen: float | None = None

    def tell(self, doing: str) -> None:
        """Say what is done now, and end if that is no longer wanted.

        Raises:
            TransferEnded: If it is not.
        """
        verdict = self._pulse.tell(self._reached, doing[:_LONGEST])
        if verdict is not Verdict.CONTINUE:
            raise TransferEnded(EndKind.CANCELLED if verdict is Verdict.CANCEL else EndKind.LOST)
        if self._stopping():
            now = time.monotonic()
            self._stop_seen = self._stop_seen if self._stop_seen is not None else now
            if now - self._stop_seen >= self._grace_s:
                raise TransferEnded(EndKind.STOPPED)

    def progress(self, doing: str, before: int = 0, *, of: int) -> Progress:
        """Return what a transfer tells its bytes, such as ``fetching pre 40 %``.

        Args:
            doing: What is done.
            before: Bytes of it that earlier transfers have moved.
            of: Bytes in all.
        """

        def look(done: int) -> None:
            percent = f" {min(100, 100 * (before + done) // of)} %" if of and before + done > 0 else ""
            self.tell(f"{doing[: _LONGEST - len(percent)]}{percent}")

        return look

    def insist(self, move: Callable[[], T]) -> T:
        """Move something, again and again for a while if the store is away: a run may have cost hours.

        Raises:
            TransferEnded: If that is no longer wanted.
            StoreUnavailable: If the store stays away, or refuses.
        """
        deadline = time.monotonic() + self._patience_s
        waited = False
        while True:
            try:
                return move()
            except StoreUnavailable as error:
                if not error.passing or time.monotonic() > deadline:
                    raise
                if not waited:
                    log.warning("the store is waited for: %s", error)
                waited = True
            self.tell("waiting for the store")
            time.sleep(_PAUSE_S)
