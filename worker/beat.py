"""The reaper: looks for lost tasks every few seconds, outside of the queue, since it must work when that does not."""

import logging
import threading
from datetime import UTC, datetime

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
    failing = False
    try:
        # Whatever came back just now, broker or worker, may have lost its messages.
        janitor.rouse(context, datetime.now(UTC))
    except Exception:
        log.exception("could not ring for the pending tasks")
    while not stop.wait(every_s):
        try:
            report = janitor.reap(context, datetime.now(UTC))
            failing = False
        except Exception as error:
            if not failing:
                log.exception("a round failed")
            else:
                log.error("a round failed again: %s", error)
            failing = True
        else:
            if report != janitor.Report():
                log.info("put right: %s", report)
