"""What a run says: JSON lines of bounded length, and the last of what it complains about."""

import json
from collections.abc import Callable
from typing import Any

LONGEST = 256 * 1024
TAIL = 16 * 1024


class Lines:
    r"""Cuts a stream of bytes into JSON objects; what is too long or is no object is left out.

    >>> heard = []
    >>> lines = Lines(heard.append)
    >>> lines.feed(b'{"a": 1}\nnoise\n{"b"'); lines.feed(b': 2}\n')
    >>> heard
    [{'a': 1}, {'b': 2}]
    """

    def __init__(self, hear: Callable[[dict[str, Any]], None], *, longest: int = LONGEST) -> None:
        self._hear = hear
        self._longest = longest
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            if not self._skipping:
                self._emit(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if self._skipping or len(self._rest) + len(part) > self._longest:
            self._skipping = True
            self._rest.clear()
        else:
            self._rest += part

    def _emit(self, line: bytes) -> None:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            self._hear(value)


class Tail:
    """Keeps the end of a stream of bytes.

    >>> tail = Tail(longest=4)
    >>> tail.feed(b"abc"); tail.feed(b"def")
    >>> tail.text()
    'cdef'
    """

    def __init__(self, *, longest: int = TAIL) -> None:
        self._longest = longest
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._kept += data
        del self._kept[: -self._longest]

    def text(self) -> str:
        """Return what is kept, as text."""
        return self._kept.decode(errors="replace").strip()
