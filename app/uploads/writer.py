"""Appending a request's body to a file: one writer at a time, the newest request first, in a thread."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path
from uuid import uuid4

from app.uploads.errors import UploadGone, UploadStalled, UploadSuperseded

_BATCH = 4 << 20  # bytes held in memory per request, at most about twice this
_MAX_PARTS = 512  # buffers per system call; the limit is 1024
_LOOK_S = 0.25
_PATIENCE_S = 15.0


class Overflow(Exception):
    """The body holds more bytes than there is room for."""


class Lease:
    """The right to write to one upload's file, held while this object is open.

    The kernel's lock on the file excludes other requests of all processes, and is dropped by kill -9. A newer
    request asks for the file by writing its token beside it; the holder looks there and yields.
    """

    def __init__(self, data: Path, turn: Path) -> None:
        self._data = data
        self._turn = turn
        self._token = uuid4().hex
        self._file = -1

    @property
    def file(self) -> int:
        """The descriptor of the locked file."""
        return self._file

    async def acquire(self) -> None:
        """Take the file over from whichever request has it.

        Raises:
            FileNotFoundError: If the upload's bytes are not here, or not any more.
            UploadSuperseded: If a still newer request came, or the holder does not yield in time.
        """
        self._file = os.open(self._data, os.O_RDWR)
        self._turn.write_text(self._token)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._try_lock():
            if not self._is_newest() or time.monotonic() > deadline:
                self.release()
                raise UploadSuperseded
            await asyncio.sleep(0.02)
        if not self._is_current():
            self.release()
            raise FileNotFoundError(self._data)

    def release(self) -> None:
        """Let the file go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def size(self) -> int:
        """Return the bytes there are."""
        return os.fstat(self._file).st_size

    def lost(self) -> Exception | None:
        """Return why this request must stop, if it must."""
        if os.fstat(self._file).st_nlink == 0:
            return UploadGone()
        return None if self._is_newest() else UploadSuperseded()

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_newest(self) -> bool:
        try:
            return self._turn.read_text() == self._token
        except FileNotFoundError:
            return False

    def _is_current(self) -> bool:
        """Whether the locked file is still the one under its name: it may have been finished meanwhile."""
        try:
            return self._data.stat().st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False


class Sink:
    """Appends to a file in a thread while further bytes arrive.

    One write is under way at a time; what arrives meanwhile is the next one, so a slow disk makes batches larger,
    and a line that falls silent leaves nothing unwritten.
    """

    def __init__(self, file: int, offset: int, pool: Executor) -> None:
        self._file = file
        self._offset = offset
        self._pool = pool
        self._waiting: list[bytes] = []
        self._held = 0
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: bytes) -> None:
        """Take bytes; waits only while too many are held already."""
        self._waiting.append(chunk)
        self._held += len(chunk)
        if self._writing is None:
            self._start()
        while self._held >= _BATCH or len(self._waiting) >= _MAX_PARTS:
            await self._wait()

    async def close(self) -> None:
        """Write what is held."""
        while self._writing is not None:
            await self._wait()

    async def abandon(self) -> None:
        """Drop what is held; when this returns nothing is being written any more, whatever cancels the waiting."""
        self._waiting.clear()
        cancelled = False
        while self._writing is not None and not self._writing.done():
            try:
                await asyncio.wait([self._writing])
            except asyncio.CancelledError:  # the file must not be let go before
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _wait(self) -> None:
        """Wait for the write under way; its failure is this one's."""
        writing = self._writing
        if writing is not None:
            await asyncio.wait([writing])
            writing.result()

    def _start(self) -> None:
        parts, self._waiting, self._held = self._waiting, [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._pool, _append, self._file, parts, self._offset)
        self._writing.add_done_callback(self._go_on)
        self._offset += sum(map(len, parts))

    def _go_on(self, written: asyncio.Future[None]) -> None:
        if written.cancelled() or written.exception() is not None:
            return  # stays, so that the next one who waits learns of it
        self._writing = None
        if self._waiting:
            self._start()


async def receive(
    lease: Lease, body: AsyncIterator[bytes], *, offset: int, room: int, pool: Executor, idle_s: float
) -> None:
    """Append a body to the leased file.

    Args:
        lease: The file.
        body: The bytes as they come. Ends early if the client went away: what came is kept.
        offset: The file's size, bytes.
        room: Bytes that may be added.
        pool: Where to write.
        idle_s: Seconds without a byte after which the request is given up.

    Raises:
        Overflow: If the body is longer than ``room``; what was written must be cut off by the caller.
        UploadSuperseded: If a newer request wants the file.
        UploadGone: If the upload was discarded.
        UploadStalled: If no bytes came for ``idle_s``.
        OSError: If the disk is full.
    """
    sink = Sink(lease.file, offset, pool)
    watch = _Watch(lease, idle_s)
    try:
        async with asyncio.timeout(None) as deadline, watch.over(deadline):
            async for chunk in body:
                watch.touch()
                room -= len(chunk)
                if room < 0:
                    raise Overflow
                if chunk:
                    await sink.add(chunk)
        await sink.close()
    except TimeoutError as error:
        raise watch.reason or error from None
    finally:
        await sink.abandon()


class _Watch:
    """Looks now and then whether a request must stop; a stalled one notices nothing by itself."""

    def __init__(self, lease: Lease, idle_s: float) -> None:
        self._lease = lease
        self._idle_s = idle_s
        self._touched = time.monotonic()
        self.reason: Exception | None = None

    def touch(self) -> None:
        """Note that bytes came."""
        self._touched = time.monotonic()

    @contextlib.asynccontextmanager
    async def over(self, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """Watch while the block runs; ends it by ``deadline``."""
        watching = asyncio.create_task(self._look(deadline))
        try:
            yield
        finally:
            watching.cancel()

    async def _look(self, deadline: asyncio.Timeout) -> None:
        while self.reason is None:
            await asyncio.sleep(_LOOK_S)
            self.reason = self._lease.lost()
            if self.reason is None and time.monotonic() - self._touched > self._idle_s:
                self.reason = UploadStalled()
        deadline.reschedule(asyncio.get_running_loop().time())


def _append(file: int, parts: list[bytes], offset: int) -> None:
    """Write all parts at ``offset``; a write may take fewer bytes than it was given."""
    views = [memoryview(part) for part in parts]
    while views:
        written = os.pwritev(file, views[:_MAX_PARTS], offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
