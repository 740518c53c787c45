"""Once a day: deletes what nobody needs from the store, beside the reaper's rounds and never in their way."""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

from app.context import Context
from app.services import orphans

log = logging.getLogger(__name__)

KEEP = timedelta(days=1)  # a task has objects before it has a row, and an operator needs time to notice a mistake
_FIRST_S = 600.0  # not while everything starts


def tidy(context: Context, now: datetime) -> None:
    """Look through the store once, delete what nobody needs, and complain about what is gone.

    If the store is full of tasks that the database does not know, nothing is deleted: one of the two is the wrong one.

    Raises:
        OSError: If the store does not answer.
    """
    found = orphans.survey(context, now, KEEP)
    if found.losses:
        log.warning("objects are gone that rows name; `volcal tidy` lists them", extra={"count": len(found.losses)})
        orphans.close(context, found)
    if found.is_strange:
        log.error(
            "most likely the store or the database is the wrong one, so nothing is deleted; see `volcal tidy`",
            extra={"tasks": found.tasks, "unknown": found.unknown},
        )
        return
    count, size = orphans.clear(context, found)
    if count:
        log.info("deleted what nobody needs", extra={"objects": count, "bytes": size})


def tidying(context: Context, *, every_s: float, stop: threading.Event) -> threading.Thread | None:
    """Tidy every so often in a thread of its own, which the process need not wait for; None if never.

    Args:
        context: The application's parts.
        every_s: Seconds between looks; 0 means never.
        stop: Set to end it.
    """
    if not every_s:
        return None

    def run() -> None:
        pause = min(every_s, _FIRST_S)
        while not stop.wait(pause):
            began = time.monotonic()
            try:
                tidy(context, datetime.now(UTC))
            except Exception:
                log.exception("the store could not be tidied")
            pause = max(every_s - (time.monotonic() - began), every_s / 2)

    thread = threading.Thread(target=run, name="tidying", daemon=True)
    thread.start()
    return thread
