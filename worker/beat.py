"""The reaper: looks for lost tasks every few seconds, outside of the queue, since it must work when that does not."""

import logging
import threading
import time
from datetime import UTC, datetime

from sqlalchemy import text

from app.context import Context
from app.services import janitor

log = logging.getLogger(__name__)


def beat(context: Context, *, every_s: float, stop: threading.Event) -> None:
    """Reap until asked to stop; a round that fails is logged, and the next one comes.

    Several may run at once: every step of a round is a compare-and-set.

    Args:
        context: The application's parts.
        every_s: Seconds between rounds.
        stop: Set to end it.
    """
    log.info("looking for lost tasks every %g s", every_s)
    _rouse(context)
    clock, failing = _Clock(), False
    while not stop.wait(every_s):
        # While the machine slept or the database was away nobody could renew a lease: give the living time to.
        if clock.slept_s() > context.policy.lease_s / 2 or (failing and _answers(context)):
            log.info("waiting %g s for workers that could not say that they live", context.policy.lease_s)
            stop.wait(context.policy.lease_s)
        try:
            report = janitor.reap(context, datetime.now(UTC))
        except Exception as error:
            log.log(logging.DEBUG if failing else logging.ERROR, "a round failed: %s", error, exc_info=True)
            failing = True
        else:
            failing = False
            if report != janitor.Report():
                log.info("put right: %s", report)


class _Clock:
    """Tells how long the machine slept: the time of day goes on meanwhile, the monotonic clock does not."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def slept_s(self) -> float:
        """Return for how many seconds since the last call."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return self._ahead - before


def _rouse(context: Context) -> None:
    """Ring for whatever is pending: who came back just now, broker or worker, may have lost its messages."""
    try:
        janitor.rouse(context, datetime.now(UTC))
    except Exception:
        log.exception("could not ring for the pending tasks")


def _answers(context: Context) -> bool:
    try:
        with context.unit_of_work(read_only=True) as work:
            work.session.execute(text("SELECT 1"))
    except Exception:  # noqa: BLE001  (whatever the driver raises)
        return False
    return True
