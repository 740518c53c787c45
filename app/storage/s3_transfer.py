"""How is a transfer of gigabytes looked after, so that it can be ended within moments?"""

import threading
import time
from collections.abc import Callable
from typing import Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from s3transfer.subscribers import BaseSubscriber

from app.domain.ports import Progress
from app.storage.errors import StoreUnavailable

PART = 16 << 20
LOOK_S = 0.2
GRACE_S = 1.5  # for what was given up to delete its parts
STALL_S = 60.0  # without a byte; what is in parts is put together meanwhile
_CONFIG = TransferConfig(
    multipart_threshold=PART,
    multipart_chunksize=PART,
    max_concurrency=4,
    io_chunksize=1 << 20,
    max_io_queue=16,  # of these chunks wait for the disk: 16 MiB
    num_download_attempts=2,
    preferred_transfer_client="classic",
)


def carry(client: Any, begin: Callable[[Any, list[Any]], Any], progress: Progress | None) -> int:
    """Run a transfer, and end it if ``progress`` raises or nothing moves for long.

    A server that stands still is not waited for: the transfer is left to its own time limits then, and ends there.

    Args:
        client: A client of boto3.
        begin: Begins it, given a transfer manager and its subscribers; returns the manager's future.
        progress: Is told the bytes so far, from this thread, also while nothing moves.

    Returns:
        The object's size in bytes, as the server says.

    Raises:
        StoreUnavailable: If nothing moved for too long.
        Exception: Whatever ``progress`` or the transfer raised.
    """
    if progress is not None:
        progress(0)
    transfer = _Transfer(client, begin)
    transfer.start()
    try:
        last, since = 0, time.monotonic()
        while not transfer.over.wait(LOOK_S):
            moved = transfer.meter.moved
            if progress is not None:
                progress(moved)
            if moved != last:
                last, since = moved, time.monotonic()
            elif time.monotonic() - since > STALL_S:
                raise StoreUnavailable(f"the object store stood still for {STALL_S:g} s in a transfer", passing=True)
    except BaseException:
        transfer.meter.give_up()
        transfer.over.wait(GRACE_S)
        raise
    if transfer.error is not None:
        raise transfer.error
    return transfer.meter.size


class _Meter(BaseSubscriber):  # type: ignore[misc]  # it is untyped
    """Counts what one transfer moves, and ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Any = None
        self._given_up = False
        self.moved = 0

    def on_queued(self, future: Any, **_: Any) -> None:
        """Learn what can be cancelled."""
        with self._lock:
            self._future = future
            given_up = self._given_up
        if given_up:
            future.cancel()

    def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:  # noqa: ARG002
        """Count; less than nothing if a piece is sent again."""
        with self._lock:
            self.moved += bytes_transferred

    @property
    def size(self) -> int:
        """The object's size in bytes; known once the transfer is over."""
        return int(self._future.meta.size)

    def give_up(self) -> None:
        """End the transfer soon; what has come of it is deleted."""
        with self._lock:
            self._given_up = True
            future = self._future
        if future is not None:
            future.cancel()


class _Transfer(threading.Thread):
    """One transfer under way."""

    def __init__(self, client: Any, begin: Callable[[Any, list[Any]], Any]) -> None:
        super().__init__(name="s3-transfer", daemon=True)  # a transfer that hangs must not keep the process
        self._client = client
        self._begin = begin
        self.meter = _Meter()
        self.over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Move the bytes."""
        try:
            with create_transfer_manager(self._client, _CONFIG) as manager:
                self._begin(manager, [self.meter]).result()
        except BaseException as error:  # noqa: BLE001  (it is raised again where the transfer was asked for)
            self.error = error
        finally:
            self.over.set()
