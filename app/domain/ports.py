"""What the use cases need from the outside; each port has an embedded and a full-stack adapter."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable
from uuid import UUID

from app.domain.access import Rate, Taken
from app.domain.inventory import Inventory

DEFAULT_QUEUE = "celery"
"""Where steps wait that name no queue."""

Progress = Callable[[int], None]
"""Is told how many bytes of a transfer have moved so far, and may raise to end it."""


class ObjectStore(Inventory, Protocol):
    """Keeps bytes under slash-separated keys such as ``tasks/<id>/in/pre``.

    Every method may raise ``OSError`` if the store is away or refuses, and ``ValueError`` for what is no key.
    """

    def put(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store the file at ``source`` under ``key``, replacing what was there; readers see all or none.

        Args:
            key: Where to.
            source: The file; it stays the caller's.
            progress: Called with the bytes moved so far, in the caller's own thread, several times a second while
                the bytes move or stand still. Whatever it raises ends the transfer and comes out; nothing
                half-done stays.
        """

    def adopt(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store the file at ``source`` as ``put`` does, and take it away from there: by moving it, where that does.

        Args:
            key: Where to.
            source: The file; the caller gives it up.
            progress: As for ``put``.

        Raises:
            FileNotFoundError: If there is no file at ``source``.
        """

    def lend(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store a file that will not change any more and is needed for minutes: at no cost where that can be.

        Args:
            key: Where to.
            source: The file; it stays the caller's, who may delete it but must not write into it.
            progress: As for ``put``.
        """

    def fetch(self, key: str, target: Path, progress: Progress | None = None) -> None:
        """Write the object to ``target``: all of it, or ``target`` is left as it was.

        Args:
            key: Where from.
            target: The file; what was there is replaced.
            progress: As for ``put``.

        Raises:
            FileNotFoundError: If there is no such object.
        """

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open the object as a seekable stream, reading only what is asked for.

        Raises:
            FileNotFoundError: If there is no such object.
        """

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes; None if there is none."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key starts with ``prefix``; absent ones are no error."""

    def url(self, key: str, *, expires_s: int, download_name: str | None = None) -> str:
        """Return a public link that works for ``expires_s`` seconds."""


class JobQueue(Protocol):
    """Tells whoever runs pipelines that a task is pending: a doorbell, the database is the truth."""

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        """Ring; called only after the task's row is committed. Ringing twice is harmless.

        Args:
            task_id: Which task.
            step: Which of its pipeline's steps is due; a bell for another one is not heard.
            queue: Where it waits; empty = the default queue.
        """

    def call_helpers(self, task_id: UUID, fence: int, count: int, queue: str = "") -> None:
        """Ring for so many workers to help the one that runs a task; nobody is missed if none hears it.

        Args:
            task_id: Which task.
            fence: Of the lease under which it is run.
            count: How many.
            queue: Where the task's step waits; empty = the default queue.
        """


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An upload all of whose bytes have arrived."""

    key: str  # where the object store has it
    size: int


class UploadGateway(Protocol):
    """Receives files from clients by the tus protocol and puts them into the object store.

    It knows an upload by its handle: what ``open`` returned.
    """

    def open(self, upload_id: str, *, key: str, filename: str, task_id: UUID, label: str) -> str:
        """Open an upload of yet unknown length; return its handle.

        Raises:
            OSError: If the gateway cannot be reached just now.
        """

    def received(self, handle: str, *, key: str) -> ReceivedFile | None:
        """Return what has arrived if all of it has; never disturbs an upload under way."""

    def offset(self, handle: str) -> int | None:
        """Return how many bytes have arrived so far; None if that is not known."""

    def moved_at(self, handle: str) -> datetime | None:
        """Return when its last byte came; None if that is not known, or it is finished or gone."""

    def url(self, handle: str) -> str:
        """Return the public URL of an upload that was opened."""

    def discard(self, handle: str) -> None:
        """Forget an upload and its bytes; absent ones are no error."""


class WebClient(Protocol):
    """Calls addresses that users name, without letting them use our place in the network."""

    def check(self, url: str) -> str:
        """Return the URL in its one form.

        Raises:
            UrlRefused: If it is plainly not one that may be called.
        """

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        """Send a body; return the answer's status.

        Raises:
            UrlRefused: If the URL may not be called.
            OSError: If no answer came, or not in time; the message says why in one line, and names no address.
        """


class RateLimiter(Protocol):
    """Counts requests by whoever makes them.

    Attributes:
        waits: Whether it asks another server, so that an event loop must not call it.
    """

    waits: bool

    def take(self, who: str, rate: Rate) -> Taken:
        """Count one request; never raises, since a limiter that is away must stop nobody's work."""


@runtime_checkable
class Checks(Protocol):
    """What an adapter also offers whose server may be away."""

    def check(self) -> None:
        """Ask the server for a sign of life, changing nothing.

        Raises:
            Exception: Whatever says best, in one line, why it cannot be used.
        """
