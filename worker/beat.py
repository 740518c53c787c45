"""The reaper: looks for lost tasks every few seconds, outside of the queue, since it must work when that does not."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from app.context import Context
from app.services import janitor
from worker.courier import Courier
from worker.fetcher import Fetcher
from worker.signs import leave, sign

log = logging.getLogger(__name__)


def beat(context: Context, *, every_s: float, stop: threading.Event, fetching: Path | None = None) -> None:
    """Reap until asked to stop; a round that fails is logged, and the next one comes.

    Several may run at once: every step of a round is a compare-and-set.

    Args:
        context: The application's parts.
        every_s: Seconds between rounds.
        stop: Set to end it.
        fetching: Folder for files that are fetched from URLs; None fetches none.
    """
    log.info("looking for lost tasks every %g s", every_s)
    _guarded(lambda: _account(context, janitor.Report()), "say that it lives")
    # Ring for whatever is pending: who came back just now, broker or worker, may have lost its messages.
    _guarded(lambda: janitor.rouse(context, _now(context)), "ring for the pending tasks")
    errands = [threading.Thread(target=Courier(context).run, args=(stop,), name="courier", daemon=True)]
    if fetching is not None:
        fetcher = Fetcher(context, fetching)
        errands.append(threading.Thread(target=fetcher.run, args=(stop,), name="fetcher", daemon=True))
    for errand in errands:
        errand.start()
    clock, failing = _Clock(), False
    while not stop.wait(every_s):
        # While the machine slept or the database was away nobody could renew a lease: give the living time to.
        if clock.slept_s() > context.policy.lease_s / 2 or (failing and _answers(context)):
            log.info("waiting %g s for workers that could not say that they live", context.policy.lease_s)
            stop.wait(context.policy.lease_s)
        try:
            report = janitor.reap(context, _now(context))
            _account(context, report)
        except Exception as error:
            log.log(logging.DEBUG if failing else logging.ERROR, "a round failed: %s", error, exc_info=True)
            failing = True
        else:
            failing = False
    for errand in errands:
        errand.join()
    _guarded(lambda: leave(context.engine, "beat", socket.gethostname()), "say that it stops")


def _now(context: Context) -> datetime:
    """Return the present by the clock that leases are written by."""
    with context.unit_of_work(read_only=True) as work:
        return work.now()


def _account(context: Context, report: janitor.Report) -> None:
    """Say that the reaper lives, and what it did."""
    sign(context.engine, "beat", socket.gethostname())
    done = {what: count for what, count in asdict(report).items() if count}
    if not done:
        return
    log.info("put right", extra=done)
    with context.unit_of_work() as work:
        for what, count in done.items():
            work.count("put_right", count, what=what)
        work.commit()


class _Clock:
    """Tells how long the machine slept: the time of day goes on meanwhile, the monotonic clock does not."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def slept_s(self) -> float:
        """Return for how many seconds since the last call."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return self._ahead - before


def _guarded(step: Callable[[], object], what: str) -> None:
    """Do something that may fail without harm."""
    try:
        step()
    except Exception:
        log.exception("could not %s", what)


def _answers(context: Context) -> bool:
    try:
        with context.unit_of_work(read_only=True) as work:
            work.session.execute(text("SELECT 1"))
    except Exception:  # noqa: BLE001  (whatever the driver raises)
        return False
    return True
