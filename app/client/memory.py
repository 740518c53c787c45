"""What was begun and not finished, so that the same command continues it after Ctrl-C, a crash or a flat battery."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_EDGE = 1 << 16
_KEEP_S = 30 * 86_400.0


def state_folder() -> Path:
    """Return where a user's programs keep what they would like to remember."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "volcal"


def fingerprint(server: str, files: Mapping[str, Path], options: Mapping[str, Any]) -> str:
    """Return a name for "these files, with these options, at this server".

    A file is told by its size, its time and its two ends: reading all of a survey would take longer than it is worth.
    """
    told: list[Any] = [server, dict(options)]
    for label, path in sorted(files.items()):
        found = path.stat()
        with path.open("rb") as stream:
            ends = stream.read(_EDGE)
            stream.seek(max(0, found.st_size - _EDGE))
            ends += stream.read(_EDGE)
        told.append([label, path.name, found.st_size, found.st_mtime_ns, hashlib.sha256(ends).hexdigest()])
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


class Memory:
    """Remembers the task of each submission that is under way; forgets what is older than a month.

    A folder that cannot be written costs only the remembering.

    Args:
        folder: Where; made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, print_: str) -> str | None:
        """Return the task that was begun under this fingerprint, if one was."""
        try:
            told = json.loads((self._folder / f"{print_}.json").read_text())
            return str(told["task_id"]) if time.time() - float(told["at"]) < _KEEP_S else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, print_: str, task_id: str) -> bool:
        """Remember a task; false if that cannot be done."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = self._folder / f".{print_}.{os.getpid()}"
            partial.write_text(json.dumps({"task_id": task_id, "at": time.time()}))
            partial.replace(self._folder / f"{print_}.json")
        except OSError:
            return False
        self._sweep()
        return True

    def forget(self, print_: str) -> None:
        """Forget a task; it is done or given up."""
        try:
            (self._folder / f"{print_}.json").unlink(missing_ok=True)
        except OSError:
            return

    def _sweep(self) -> None:
        for path in self._folder.glob("*.json"):
            try:
                if time.time() - path.stat().st_mtime > _KEEP_S:
                    path.unlink()
            except OSError:
                continue
