"""Appending a request's body to a file: one writer at a time, the newest request first, in a thread."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from uuid import uuid4

from app.uploads.errors import UploadGone, UploadStalled, UploadSuperseded

Body = AsyncIterator[Sequence[bytes | memoryview]]
"""What a request sends: lists of pieces, each list as long as it pleases and valid until the next is asked for."""

_MAX_PIECES = 1024  # per system call
_FLUSH = 8 << 20  # bytes after which the disk is told
_LAG = 3  # times as many are looked at again, since the disk needs a while
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
        self._is_held = False

    @property
    def file(self) -> int:
        """The descriptor of the locked file."""
        return self._file

    async def acquire(self, pool: Executor) -> None:
        """Take the file over from whichever request has it; release it in any case.

        Args:
            pool: Where to ask the disk.

        Raises:
            FileNotFoundError: If the upload's bytes are not here, or not any more.
            UploadSuperseded: If a still newer request came, or the holder does not yield in time.
        """
        await _settled(asyncio.get_running_loop().run_in_executor(pool, self._ask))
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_held and not self._try_lock():
            if not self._is_newest() or time.monotonic() > deadline:
                self.release()
                raise UploadSuperseded
            await asyncio.sleep(0.02)
        if not self._is_current():
            self.release()
            raise FileNotFoundError(self._data)

    def _ask(self) -> None:
        self._file = os.open(self._data, os.O_RDWR)
        self._turn.write_text(self._token)
        self._is_held = self._try_lock()

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


async def receive(lease: Lease, body: Body, *, offset: int, room: int, pool: Executor, idle_s: float) -> None:
    """Append a body to the leased file.

    Args:
        lease: The file.
        body: The pieces as they come; more of them gather while some are written. Ends early if the client went
            away: what came is kept.
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
    watch = _Watch(lease, idle_s)
    end = offset + room
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as deadline, watch.over(deadline):
            async for pieces in body:
                size = sum(map(len, pieces))
                if offset + size > end:
                    raise Overflow
                if size:
                    await _settled(loop.run_in_executor(pool, _append, lease.file, pieces, offset, size))
                offset += size
                watch.touch()
    except TimeoutError as error:
        raise watch.reason or error from None


async def _settled(job: "asyncio.Future[None]") -> None:
    """Wait for what a thread does, whatever cancels the waiting: what it works on must not be let go before."""
    cancelled = False
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        job.exception()  # nobody will ask
        raise asyncio.CancelledError
    job.result()


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


def _append(file: int, pieces: Sequence[bytes | memoryview], offset: int, size: int) -> None:
    """Write ``size`` bytes at ``offset``; a write may take fewer bytes than it was given."""
    if len(pieces) > _MAX_PIECES:
        pieces = [b"".join(pieces)]
    written = os.pwritev(file, pieces, offset)
    if written < size:
        whole = memoryview(b"".join(pieces))
        while written < size:
            written += os.pwritev(file, [whole[written:]], offset + written)
    end = (offset + size) // _FLUSH * _FLUSH
    if end > offset:
        # What is complete goes to the disk now, or the flush that finishes the file would wait for all of it; what is
        # on the disk leaves the memory, which the database and the pipelines have better uses for.
        begin = max(0, offset // _FLUSH - _LAG) * _FLUSH
        with contextlib.suppress(OSError, AttributeError):
            os.posix_fadvise(file, begin, end - begin, os.POSIX_FADV_DONTNEED)
