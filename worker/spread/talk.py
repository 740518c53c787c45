"""A thread that answers a run: it may wait for the database and the store, its supervisor may not."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Say = Callable[[dict[str, Any] | None], None]

_PATIENCE_S = 60.0  # for a database or a store that is away
_PAUSE_S = 0.5


def is_own(path: Path, folder: Path) -> bool:
    """Return whether a process that writes into a folder named a file of its own; no other is read for it."""
    return not path.is_symlink() and path.is_file() and path.resolve().is_relative_to(folder.resolve())


class Over(Exception):
    """The run has ended, or is to."""


class Talk:
    """Hears events and deals with them one after the other; what is under way ends when the run does."""

    def __init__(self) -> None:
        self._heard: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._over = threading.Event()
        self._say: Say = lambda _: None
        # its lines of log tell of the same task as ours
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="talk", daemon=True)

    def begin(self, say: Say) -> None:
        """Begin; ``say`` sends a command to the run."""
        self._say = say
        self._thread.start()

    def hear(self, event: dict[str, Any]) -> None:
        """Take what the run says, at once."""
        self._heard.put(event)

    def end(self) -> None:
        """End, giving up what is under way."""
        self._over.set()
        self._heard.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def talk(self) -> None:
        """Deal with everything, until there is nothing more to deal with, or ``Over`` is raised."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self.talk()
        except Over:
            pass
        except Exception:
            log.exception("the conversation with a run has failed")
            self._say({"failed": "the worker's log says why"})

    def _next(self) -> dict[str, Any]:
        """Wait for the next event."""
        event = self._heard.get()
        if event is None or self._over.is_set():
            raise Over
        return event

    def _wait(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise Over

    def _progress(self, _done: int) -> None:
        """Let a transfer end when the run does."""
        if self._over.is_set():
            raise Over

    def _insist(self, work: Callable[[], T]) -> T:
        """Do something again and again for a while if a server is away; what is not there is no reason to wait."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return work()
            except (Over, FileNotFoundError, ValueError):
                raise
            except Exception as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("tried again in a moment: %s", error)
            self._wait(_PAUSE_S)
