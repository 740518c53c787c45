"""What those share that go on errands beside the reaper, each errand in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

_LAST_WORDS_S = 3.0


def keep_at(
    look: Callable[[], object], *, every_s: float, stop: threading.Event, log: logging.Logger, failed: str
) -> None:
    """Look for errands again and again until asked to stop; of looks that fail in a row the first is an error.

    Args:
        look: Starts what is due.
        every_s: Seconds between looks.
        stop: Set to end it.
        log: Where failures are told.
        failed: What a failure means, for the log.
    """
    failing = False
    while not stop.wait(every_s):
        try:
            look()
        except Exception as error:
            log.log(logging.DEBUG if failing else logging.ERROR, "%s: %s", failed, error, exc_info=True)
            failing = True
        else:
            failing = False


def last_words(threads: Iterable[threading.Thread]) -> None:
    """Give what is under way some seconds to end, all together."""
    deadline = time.monotonic() + _LAST_WORDS_S
    for thread in threads:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
