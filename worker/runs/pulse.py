"""The heartbeat of one run: beats in a thread of its own, so that a slow database never delays the supervisor."""

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Self

from app.services.runs import Verdict

log = logging.getLogger(__name__)


class Pulse:
    """Renews a lease every few seconds for as long as the ``with`` block lasts.

    Args:
        beat: Writes the progress (fraction, stage) and returns what the database wants; may be slow, may fail.
        every_s: Seconds between beats.
    """

    def __init__(self, beat: Callable[[float, str], Verdict], *, every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._progress = (0.0, "starting")
        self._verdict = Verdict.CONTINUE
        self._over = threading.Event()
        # its lines of log tell of the same task as ours
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Beat no more; a beat under way is waited for."""
        self._over.set()
        self._thread.join()

    @property
    def verdict(self) -> Verdict:
        """What the last beat learned."""
        return self._verdict

    def tell(self, fraction: float, stage: str) -> Verdict:
        """Say how far the run is, for the next beat, and return what the last one learned; never waits."""
        self._progress = (fraction, stage)
        return self._verdict

    def _run(self) -> None:
        failing = False
        while not self._over.wait(self._every_s):
            try:
                self._verdict = self._beat(*self._progress)
                failing = False
            except Exception as error:  # noqa: BLE001  (whatever the database raises: the run goes on, the fence protects)
                if not failing:
                    log.warning("a heartbeat could not be written, and will be tried again: %s", error)
                failing = True
            if self._verdict is not Verdict.CONTINUE:
                return
