"""Resumable uploads by tus 1.0.0: the protocol's rules over files, without HTTP.

An upload is one file that only grows, and **its size is the offset**: there is nothing else to keep in step, so
``kill -9`` at any byte leaves an upload that can be resumed. When the declared length is reached the file is
renamed into the object store. Each step can be repeated; whichever process looks next completes it.
"""

import asyncio
import dataclasses
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from app.domain.errors import UploadClosed, UploadNotFound, UploadTooLarge
from app.domain.ports import ReceivedFile
from app.uploads.errors import HeaderInvalid, OffsetMismatch, UploadGone
from app.uploads.records import Record, Records
from app.uploads.writer import Body, Lease, Overflow, receive

T = TypeVar("T")

_KEEP_S = 7 * 86_400.0  # how long a finished or discarded upload still answers, beyond its time to live


class Shelf(Protocol):
    """What is needed of the object store: it keeps files on this machine."""

    def adopt(self, key: str, source: Path) -> None:
        """Store a file by moving it; ``FileNotFoundError`` if it is not there."""

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes; None if there is none."""

    def delete(self, key: str) -> None:
        """Delete one object; an absent one is no error."""


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """Where an upload stands.

    Args:
        offset: Bytes that are here.
        length: Bytes in all; None until the client says.
        expires_at: Unix seconds until which the upload surely stays open.
        metadata: Value of the Upload-Metadata header.
        is_finished: Whether all bytes have arrived and the store has them.
    """

    offset: int
    length: int | None
    expires_at: float
    metadata: str
    is_finished: bool = False


class TusUploads:
    """An UploadGateway that receives the files itself.

    Several processes may share the folder.

    Args:
        root: Folder of unfinished uploads; best on the store's file system, so that finishing is a rename.
        store: Where finished files go.
        base_url: Public base URL of the gateway.
        max_bytes: Largest file accepted.
        ttl_s: Seconds without a byte after which an upload expires.
        idle_s: Seconds without a byte after which one request is given up.
    """

    def __init__(
        self,
        root: Path,
        store: Shelf,
        *,
        base_url: str,
        max_bytes: int,
        ttl_s: float = 86_400.0,
        idle_s: float = 60.0,
    ) -> None:
        self.max_bytes = max_bytes
        self._records = Records(root)
        self._store = store
        self._base_url = base_url.rstrip("/")
        self._ttl_s = ttl_s
        self._idle_s = idle_s
        # its own threads, so that a slow disk does not hold up the other routes
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="tus")
        self._records.sweep(time.time() - ttl_s - _KEEP_S)

    def open(self, upload_id: str, *, key: str, filename: str, task_id: UUID, label: str) -> str:
        """Open an upload of yet unknown length; return its handle, the same id. Opening it again changes nothing."""
        if self._records.load(upload_id) is None:
            self._records.save(upload_id, Record(key, filename, str(task_id), label, opened_at=time.time()))
            self._records.data(upload_id).touch()
        return upload_id

    def url(self, upload_id: str) -> str:
        """Return the public URL of an upload that was opened."""
        return f"{self._base_url}/files/{upload_id}"

    def received(self, upload_id: str, *, key: str) -> ReceivedFile | None:
        """Return what has arrived if all of it has; never disturbs an upload under way."""
        if (size := self._store.size(key)) is not None:
            return ReceivedFile(key, size)
        record = self._records.load(upload_id)
        if record is None or record.gone or record.key != key or not self._finish(upload_id, record):
            return None
        size = self._store.size(key)
        return None if size is None else ReceivedFile(key, size)

    def offset(self, upload_id: str) -> int | None:
        """Return how many bytes have arrived so far; None if the upload is not known, or gone."""
        try:
            return self._look(upload_id, self._live(upload_id)).offset
        except (UploadNotFound, UploadGone):
            return None

    def moved_at(self, upload_id: str) -> datetime | None:
        """Return when its last byte came; None if the upload is not known, finished or gone."""
        record = self._records.load(upload_id)
        if record is None or record.gone:
            return None
        try:
            return datetime.fromtimestamp(self._records.data(upload_id).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def discard(self, upload_id: str) -> None:
        """Forget an upload and its bytes, also if it is being written or finished; absent ones are no error."""
        record = self._records.load(upload_id)
        if record is None:
            return
        # the mark comes first: whoever looks from here on is told to stop
        self._records.save(upload_id, dataclasses.replace(record, gone=True))
        self._records.forget_bytes(upload_id)
        self._store.delete(record.key)

    def status(self, upload_id: str, *, length: int | None = None) -> UploadStatus:
        """Answer HEAD; a complete upload is finished if it was not yet.

        Args:
            upload_id: The upload.
            length: Bytes in all, if the client declares them here.

        Raises:
            UploadNotFound: If there is no such upload.
            UploadGone: If it has expired or was discarded.
            UploadTooLarge: If ``length`` is more than allowed.
            HeaderInvalid: If ``length`` contradicts what was said or sent before.
        """
        record = self._live(upload_id)
        status = self._look(upload_id, record)
        if length is not None:
            record = self._declare(upload_id, length, status.offset)
            status = dataclasses.replace(status, length=record.length)
        if status.offset == status.length:
            status = dataclasses.replace(status, is_finished=self._finish(upload_id, record))
        return status

    async def write(
        self,
        upload_id: str,
        *,
        offset: int,
        body: Body,
        length: int | None = None,
        body_length: int | None = None,
    ) -> UploadStatus:
        """Answer PATCH: append a body, and finish the upload when all of it is here.

        Args:
            upload_id: The upload.
            offset: Where the client believes the upload stands, bytes.
            body: The bytes as they come; ends early if the client went away, and what came is kept.
            length: Bytes of the whole upload, if the client declares them here.
            body_length: Bytes of this body, if the client says so.

        Raises:
            UploadNotFound: If there is no such upload.
            UploadGone: If it has expired or was discarded, also while it was being written.
            OffsetMismatch: If the upload stands elsewhere.
            UploadClosed: If the upload is finished and the body has bytes.
            UploadTooLarge: If the body, or the declared length, is more than there is room for; nothing is kept of it.
            UploadSuperseded: If a newer request took over; bytes written until then are kept.
            UploadStalled: If no bytes came for long.
            HeaderInvalid: If ``length`` contradicts what was said or sent before.
        """
        if not self._records.may_be(upload_id):
            raise UploadNotFound
        lease = Lease(self._records.data(upload_id), self._records.turn(upload_id))
        try:
            try:
                await lease.acquire(self._pool)
            except FileNotFoundError:
                return await self._after_the_end(upload_id, offset, body)
            await self._append(lease, upload_id, offset, length, body_length, body)
        finally:
            lease.release()
        return await self._run(self.status, upload_id)

    async def _append(
        self,
        lease: Lease,
        upload_id: str,
        offset: int,
        length: int | None,
        body_length: int | None,
        body: Body,
    ) -> None:
        if (size := lease.size()) != offset:
            raise OffsetMismatch(size)
        if length is None:
            record = await self._run(self._live, upload_id)
        else:
            record = await self._run(self._declare, upload_id, length, size)
        end = self.max_bytes if record.length is None else record.length
        if offset + (body_length or 0) > end:
            raise _too_large(end, record)
        try:
            await receive(lease, body, offset=offset, room=end - offset, pool=self._pool, idle_s=self._idle_s)
        except Overflow:
            # a body that runs over cannot be trusted; without a declared length nothing before it can either
            os.ftruncate(lease.file, 0 if record.length is None else offset)
            raise _too_large(end, record) from None

    async def _after_the_end(self, upload_id: str, offset: int, body: Body) -> UploadStatus:
        """Answer a PATCH to a finished upload: clients send an empty one after the last full piece."""
        status = await self._run(self.status, upload_id)
        if status.offset != offset:
            raise OffsetMismatch(status.offset)
        async for pieces in body:
            if any(pieces):
                raise UploadClosed("This upload is finished; its file cannot be replaced.")
        return status

    def _live(self, upload_id: str) -> Record:
        """Return the record of an upload that still takes bytes or has all of them."""
        record = self._records.load(upload_id)
        if record is None:
            raise UploadNotFound
        if record.gone:
            raise UploadGone
        return record

    def _look(self, upload_id: str, record: Record) -> UploadStatus:
        try:
            found = self._records.data(upload_id).stat()
        except FileNotFoundError:
            size = self._store.size(record.key)
            if size is None or size != record.length:
                raise UploadGone from None
            return UploadStatus(size, size, record.opened_at + self._ttl_s, record.metadata)
        # what is promised counts from the opening, as the task's own deadline does; a line that still moves is kept
        if time.time() > max(record.opened_at, found.st_mtime) + self._ttl_s and found.st_size != record.length:
            raise UploadGone
        return UploadStatus(found.st_size, record.length, record.opened_at + self._ttl_s, record.metadata)

    def _declare(self, upload_id: str, length: int, offset: int) -> Record:
        """Note how long the whole upload is; saying the same again is fine."""
        if length > self.max_bytes:
            raise UploadTooLarge(f"Files of up to {self.max_bytes} bytes are accepted; this one has {length}.")
        with self._records.locked():
            record = self._live(upload_id)
            if record.length == length:
                return record
            if record.length is not None:
                raise HeaderInvalid(f"Upload-Length was {record.length} before and cannot become {length}.")
            if length < offset:
                raise HeaderInvalid(f"Upload-Length is {length}, but {offset} bytes have arrived already.")
            record = dataclasses.replace(record, length=length)
            self._records.save(upload_id, record)
            return record

    def _finish(self, upload_id: str, record: Record) -> bool:
        """Move the bytes into the store if all are here; true if the store has them.

        A crash before the rename leaves all as it was; after it, the store has the file and this returns true.
        """
        data = self._records.data(upload_id)
        try:
            file = os.open(data, os.O_RDONLY)
        except FileNotFoundError:
            return record.length is not None and self._store.size(record.key) == record.length
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_size != record.length:
                return False
            self._store.adopt(record.key, data)
        except BlockingIOError:  # a request is writing, and finishes it itself
            return False
        except FileNotFoundError:  # discarded, or finished by another process, in between
            return self._store.size(record.key) == record.length
        finally:
            os.close(file)
        self._records.turn(upload_id).unlink(missing_ok=True)
        if (now := self._records.load(upload_id)) is None or now.gone:
            self._store.delete(record.key)
            return False
        return True

    async def _run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))


def _too_large(end: int, record: Record) -> UploadTooLarge:
    if record.length is None:
        return UploadTooLarge(f"Files of up to {end} bytes are accepted; this one is larger.")
    return UploadTooLarge(f"The upload is {end} bytes long as declared; there is no room for more.")
