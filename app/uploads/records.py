"""What is remembered of each upload beside its bytes: one small JSON file, written whole or not at all."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Record:
    """An upload that was opened.

    Args:
        key: Where the object store will have the bytes.
        filename: A name for people.
        task_id: The task it belongs to.
        label: The task's input that it is.
        opened_at: Unix seconds.
        length: Bytes in all; None until the client says.
        gone: Whether the upload was discarded.
    """

    key: str
    filename: str
    task_id: str
    label: str
    opened_at: float
    length: int | None = None
    gone: bool = False

    @property
    def metadata(self) -> str:
        """The value of the Upload-Metadata header."""
        pairs = {"filename": self.filename, "task_id": self.task_id, "label": self.label}
        return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in pairs.items())


class Records:
    """The files of each upload below one folder: the bytes, the record, and whose turn it is to write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def may_be(self, upload_id: str) -> bool:
        """Return whether an upload may have this id; no other id may become part of a path."""
        return _ID.fullmatch(upload_id) is not None

    def data(self, upload_id: str) -> Path:
        """Return where the bytes are while they arrive; the file's size is the upload's offset."""
        return self.root / f"{upload_id}.part"

    def turn(self, upload_id: str) -> Path:
        """Return the file that holds the token of the newest request to write."""
        return self.root / f"{upload_id}.turn"

    def load(self, upload_id: str) -> Record | None:
        """Return the record; None if there is none, or the id cannot be one."""
        if not self.may_be(upload_id):
            return None
        try:
            fields: dict[str, Any] = json.loads(self._path(upload_id).read_bytes())
        except FileNotFoundError:
            return None
        return Record(**fields)

    def save(self, upload_id: str, record: Record) -> None:
        """Replace the record; after this it survives a crash.

        Raises:
            ValueError: If the id cannot be part of a URL and a file name.
        """
        if not self.may_be(upload_id):
            raise ValueError(f"{upload_id!r} cannot be the id of an upload")
        partial = self.root / f".{uuid4().hex}.tmp"
        try:
            with partial.open("x") as stream:
                json.dump(dataclasses.asdict(record), stream)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self._path(upload_id))
        finally:
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else who asks, also in other processes, from changing a record meanwhile."""
        folder = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def forget_bytes(self, upload_id: str) -> None:
        """Remove the bytes; a request that is writing them notices."""
        for path in (self.data(upload_id), self.turn(upload_id)):
            path.unlink(missing_ok=True)

    def sweep(self, before: float) -> None:
        """Remove all files that nobody touched since ``before`` (Unix seconds)."""
        for path in self.root.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def _path(self, upload_id: str) -> Path:
        return self.root / f"{upload_id}.json"
