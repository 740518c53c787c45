"""A large file in several ranges at once: each goes on where its line broke, and what is here outlives the process."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx

from app.client.errors import Refused, TransferFailed, Unreachable
from app.client.models import Artifact
from app.client.transport import Patience, refusal

PIECE = 16 << 20
"""Bytes of a range: what a process that is killed may have to fetch again, for each line that it had open."""

_PARTIAL = 206
_STALE_LINK = 403
_RENEWALS = 3  # in a row that bring not one byte
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


class Tally(Protocol):
    """Adds up what the threads have."""

    stopped: threading.Event

    def add(self, count: int) -> None:
        """Note that so many bytes more are here."""


class Link:
    """The address of a file, which may have to be renewed: links live for minutes, slow lines take hours.

    Args:
        artifact: The file.
        listing: Asks the server for all files, with fresh links.
    """

    def __init__(self, artifact: Artifact, listing: Callable[[], Sequence[Artifact]]) -> None:
        self.name = artifact.name
        self.size = artifact.size
        self.url = artifact.url
        self._listing = listing
        self._renewals = 0
        self._lock = threading.Lock()

    def worked(self) -> None:
        """Note that bytes came."""
        self._renewals = 0

    def renew(self, used: str) -> bool:
        """Get another address than the one that was used; false if that has been done too often."""
        with self._lock:
            if self.url != used:  # another thread was faster
                return True
            if self._renewals >= _RENEWALS:
                return False
            self._renewals += 1
            fresh = {artifact.name: artifact for artifact in self._listing()}
            if self.name not in fresh or fresh[self.name].size != self.size:
                raise TransferFailed("The result changed while it was fetched.", "Fetch it again.")
            self.url = fresh[self.name].url
            return True


def persist(link: Link, patience: Patience, more: Callable[[str], None], here: Callable[[], int], end: int) -> None:
    """Ask for more, and again after each failure, until all is here.

    Args:
        link: Where.
        patience: How long to go on while nothing comes.
        more: Asks an address for what is not here.
        here: Says how much is.
        end: How much is all.

    Raises:
        Refused: If the server says no.
        Unreachable: If it stays away.
    """
    while (before := here()) < end:
        why: object = "the line broke"
        url = link.url
        try:
            more(url)
        except httpx.TransportError as error:
            why = error
        except Refused as error:
            if error.status < 500 and not (error.status == _STALE_LINK and link.renew(url)):
                raise
            why = error
        if (now := here()) > before:
            patience.restart()
            link.worked()
        elif now < end and not patience.pause():
            raise Unreachable(f"{httpx.URL(url).host}, while fetching {link.name},", why)


@contextmanager
def opened(http: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Hold an answer that is being read, as it is stored; raise what the server says if it is no success."""
    with http.stream("GET", url, headers={"Accept-Encoding": "identity"} | headers) as answer:
        if not answer.is_success:
            answer.read()
            raise refusal(answer)
        yield answer


def check_digest(path: Path, name: str, said: str | None) -> None:
    """Compare a whole file with the ``Repr-Digest`` that the server said (RFC 9530), if it said one.

    Raises:
        TransferFailed: If they differ; the file is not kept.
    """
    found = _SHA256.search(said or "")
    if found is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    if digest != base64.b64decode(found[1]):
        path.unlink()
        raise TransferFailed(f"{name} is not what the server says: its SHA-256 is another.", "Fetch it again.")


class Ranged:
    """A large file in pieces; a journal beside it says which are here, and of what version.

    Args:
        http: Sends the requests.
        link: Where the file is.
        target: Where it is put together.
        patience_s: Seconds without a byte after which it is given up.
        tally: Told what is here.
    """

    def __init__(self, http: httpx.Client, link: Link, target: Path, patience_s: float, tally: Tally) -> None:
        self._http = http
        self._link = link
        self._target = target
        self._journal = journal_of(target)
        self._patience_s = patience_s
        self._tally = tally
        self._etag: str | None = None
        self._done: set[int] = set()
        self._lock = threading.Lock()
        self.digest: str | None = None

    def begin(self) -> bool:
        """Ask which version there is, and keep what is here of it; false if the server knows no ranges."""
        told: list[httpx.Response] = []

        def ask(url: str) -> None:
            with self._open(url, 0, 1) as answer:
                told.append(answer)

        persist(self._link, Patience(self._patience_s), ask, lambda: len(told), 1)
        answer = told[0]
        if answer.status_code != _PARTIAL or not self._is_ours(answer, 0, 1):
            return False
        self._etag, self.digest = answer.headers.get("etag"), answer.headers.get("repr-digest")
        self._done = self._recall()
        if not self._done:
            with self._target.open("wb") as stream:
                stream.truncate(self._link.size)
        self._tally.add(sum(end - start for start, end in map(self._bounds, self._done)))
        return True

    def jobs(self) -> list[Callable[[], None]]:
        """Return what is to be done, in any order and at once: a call for each piece that is not here."""
        count = -(-self._link.size // PIECE)
        return [partial(self._fetch, number) for number in range(count) if number not in self._done]

    def _bounds(self, number: int) -> tuple[int, int]:
        return number * PIECE, min((number + 1) * PIECE, self._link.size)

    def _fetch(self, number: int) -> None:
        start, end = self._bounds(number)
        here = start

        def more(url: str) -> None:
            nonlocal here
            with self._open(url, here, end) as answer, self._target.open("r+b") as stream:
                if not self._is_ours(answer, here, end):
                    raise TransferFailed("The result changed while it was fetched.", "Fetch it again.")
                stream.seek(here)
                for block in answer.iter_bytes():
                    if self._tally.stopped.is_set():
                        raise TransferFailed("Fetching was stopped.")
                    if here + len(block) > end:
                        raise TransferFailed(f"{self._link.name}: more came than was asked for.", "Fetch it again.")
                    stream.write(block)
                    here += len(block)
                    self._tally.add(len(block))

        persist(self._link, Patience(self._patience_s), more, lambda: here, end)
        self._note(number)

    def _open(self, url: str, start: int, end: int) -> AbstractContextManager[httpx.Response]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._etag is not None and not self._etag.startswith("W/"):
            headers["If-Range"] = self._etag
        return opened(self._http, url, headers)

    def _is_ours(self, answer: httpx.Response, start: int, end: int) -> bool:
        """Return whether an answer is the range that was asked for, of the version that is being fetched."""
        told, etag = answer.headers.get("content-range"), answer.headers.get("etag")
        return told == f"bytes {start}-{end - 1}/{self._link.size}" and self._etag in (None, etag)

    def _recall(self) -> set[int]:
        """Return the pieces that an earlier process left, if they are of this version."""
        try:
            told: dict[str, Any] = json.loads(self._journal.read_text())
            if self._etag is None or told["version"] != self._version() or not self._target.is_file():
                return set()
            return {int(number) for number in told["done"]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()

    def _version(self) -> list[Any]:
        return [self._etag, self._link.size, PIECE]

    def _note(self, number: int) -> None:
        with self._lock:
            self._done.add(number)
            fresh = self._journal.with_name(f"{self._journal.name}.new")
            fresh.write_text(json.dumps({"version": self._version(), "done": sorted(self._done)}))
            fresh.replace(self._journal)


def journal_of(target: Path) -> Path:
    """Return where it stands which pieces of a file are here."""
    return target.with_name(f"{target.name}.json")
