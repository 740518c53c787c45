"""What a supervisor says to its run: JSON lines on a pipe of their own."""

import json
import os
from collections.abc import Iterator
from typing import Any


class Commands:
    """Reads commands one by one; ``None`` once the supervisor has gone or has nothing more to say.

    Args:
        fd: The pipe's end to read from; no program that is started from here inherits it.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._stream = os.fdopen(fd, "rb")

    def next(self) -> dict[str, Any] | None:
        """Wait for the next command."""
        line = self._stream.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (command := self.next()) is not None:
            yield command
