"""What a run tells of itself, for its task's log: its stages, and what it writes to its standard error.

Lines wait here for the next heartbeat, so that a chatty run costs the database nothing. Of what it writes the beginning
and the end are kept, each up to a bound, with no word of this machine: neither secrets nor where its folders are.
"""

import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pipeline
from app.observe.masking import Mask
from app.services.following.logbook import LONGEST, Level, Line

HEAD_BYTES = 16 * 1024
TAIL_BYTES = 16 * 1024
MOST_LINES = 200  # of the beginning, and of the end
_BREAK = re.compile(rb"[\r\n]+")
# /a/b/name as …/name, but nothing of a URL or of a relative path
_PATH = re.compile(r"(?<![\w:/.…-])/(?:[^\s/\"'<>:]+/)+")


class Journal:
    """Collects the lines of one run.

    Args:
        attempt: Which attempt it is.
        hidden: Folders whose names are left out of what is told.
        mask: Replaces secrets.
    """

    def __init__(self, attempt: int, *, hidden: Iterable[Path] = (), mask: Callable[[str], str] | None = None) -> None:
        self._attempt = attempt
        self._mask = mask or Mask()
        folders = [*hidden, Path(pipeline.__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)]
        self._hidden = sorted({f"{folder}/" for folder in folders}, key=len, reverse=True)
        self._stage = ""
        self._lines: list[Line] = []
        self._rest = bytearray()
        self._is_cut = False
        self._head_left = HEAD_BYTES, MOST_LINES
        self._tail: deque[Line] = deque(maxlen=MOST_LINES)
        self._tail_size = 0
        self._left_out = 0
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def stage(self, name: str, seconds: float | None) -> None:
        """Tell that a stage begins, or, with the seconds that it took, that it is over."""
        self.say("begins" if seconds is None else f"took {seconds:.2f} s", stage=name)
        self._stage = name if seconds is None else ""

    def say(self, message: str, level: Level = "info", *, stage: str = "") -> None:
        """Tell something in the worker's words."""
        line = Line(datetime.now(UTC), message, level, stage or self._stage, self._attempt)
        with self._lock:
            self._lines.append(line)

    def feed(self, data: bytes) -> None:
        """Take the next bytes that the run wrote to its standard error."""
        *whole, rest = _BREAK.split(data)
        for part in whole:
            self._add(part)
            self._emit()
        self._add(rest)

    def _add(self, part: bytes) -> None:
        room = LONGEST - len(self._rest)
        self._rest += part[: max(0, room)]
        self._is_cut |= len(part) > room

    def _emit(self) -> None:
        text = self._rest.decode(errors="replace").rstrip() + ("…" if self._is_cut else "")
        self._rest.clear()
        self._is_cut = False
        if not text:
            return
        size, (room, lines) = len(text.encode()), self._head_left
        if lines and size <= room:
            self._head_left = room - size, lines - 1
            with self._lock:
                self._lines.append(self._output(text))
            return
        self._head_left = 0, 0
        self._keep_last(text, size)

    def _keep_last(self, text: str, size: int) -> None:
        """Keep a line of the end for as long as it is one: what comes later is worth more."""
        if len(self._tail) == MOST_LINES:
            self._drop()
        self._tail.append(Line(datetime.now(UTC), text, "output", self._stage, self._attempt))
        self._tail_size += size
        while self._tail_size > TAIL_BYTES:
            self._drop()

    def _drop(self) -> None:
        self._tail_size -= len(self._tail.popleft().message.encode())
        self._left_out += 1

    def _output(self, text: str) -> Line:
        return Line(datetime.now(UTC), self.clean(text), "output", self._stage, self._attempt)

    def clean(self, text: str) -> str:
        """Return a text without secrets and without the folders of this machine."""
        for folder in self._hidden:
            text = text.replace(folder, "")
        return _PATH.sub("…/", self._mask(text))

    def close(self) -> None:
        """Tell the end of what the run wrote; nothing of it comes after this."""
        self._emit()
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self.say(f"{left_out:,} lines that it wrote are left out here.", "warning")
        with self._lock:
            self._lines += [
                Line(line.at, self.clean(line.message), line.level, line.stage, line.attempt) for line in self._tail
            ]
        self._tail.clear()
        self._tail_size = 0

    @contextmanager
    def handing_over(self) -> Iterator[list[Line]]:
        """Yield the lines that wait, which are gone once the block ends well: they are in the database then.

        Whoever hands over takes turns with others, from before a transaction to its end, so that lines stay in order.
        """
        with self._turn:
            with self._lock:
                lines = self._lines[:]
            yield lines
            with self._lock:
                del self._lines[: len(lines)]
