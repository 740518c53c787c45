"""Asks something that may hang, without hanging: one question at a time, each answer good for a while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Probe(Generic[T]):
    """A question that is asked in a thread of its own.

    However many want to know, and however long the answer takes, one thread asks.

    Args:
        ask: The question; may raise, may hang.
        patience_s: Longest wait for an answer, seconds.
        good_for_s: How long an answer is given again without asking, seconds.
    """

    def __init__(self, ask: Callable[[], T], *, patience_s: float = 3.0, good_for_s: float = 1.5) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._good_for_s = good_for_s
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._answered: threading.Event | None = None  # of the question under way, or the last one
        self._found: T | None = None
        self._error: Exception | None = None

    def begin(self) -> None:
        """Ask now, so that the answer comes sooner; does nothing if it is being asked, or was a moment ago."""
        with self._lock:
            now = time.monotonic()
            under_way = self._answered is not None and not self._answered.is_set()
            if under_way or now - self._asked < self._good_for_s:
                return
            self._asked, self._answered = now, threading.Event()
            # A daemon: a question that hangs must not keep the process from ending.
            threading.Thread(target=self._run, args=(self._answered,), name="probe", daemon=True).start()

    def answer(self) -> T:
        """Return the answer.

        Raises:
            TimeoutError: If there is none in time.
            Exception: Whatever the question raised.
        """
        self.begin()
        answered, asked = self._answered, self._asked
        assert answered is not None  # noqa: S101  (narrowing: begin has set it)
        if not answered.wait(max(0.0, asked + self._patience_s - time.monotonic())):
            raise TimeoutError(f"no answer within {self._patience_s:g} s")
        if self._error is not None:
            raise self._error
        return self._found  # type: ignore[return-value]  # what was asked for may well be None

    def _run(self, answered: threading.Event) -> None:
        found: T | None = None
        failed: Exception | None = None
        try:
            found = self._ask()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the answer)
            failed = error
        self._found, self._error = found, failed
        answered.set()
