"""Fetching result files: several at once, whole or not at all, continuing where an earlier try stopped."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import httpx

from app.client import ranges
from app.client.errors import TransferFailed
from app.client.models import Artifact
from app.client.ranges import Link, Ranged, check_digest, journal_of, opened, persist
from app.client.sending import Progress
from app.client.transport import Patience


def fetch_all(
    http: httpx.Client,
    listing: Callable[[], Sequence[Artifact]],
    folder: Path,
    *,
    parallel: int,
    patience_s: float,
    progress: Progress,
) -> list[Path]:
    """Fetch every file of a result into a folder; those that are there already in full are left alone.

    Args:
        http: Sends the requests.
        listing: Asks the server for the files, with fresh links.
        folder: Where to put them; made if absent.
        parallel: How many requests at once; with more than one, a large file is fetched in ranges.
        patience_s: Seconds without a byte after which it is given up.
        progress: Told the bytes that are here and the bytes in all.

    Returns:
        The files, in the server's order.

    Raises:
        Refused: If the server says no.
        Unreachable: If it stays away.
        TransferFailed: If a file's name leads out of the folder, its size or digest is wrong, or it changes meanwhile.
    """
    artifacts = listing()
    targets = {artifact.name: _target(folder, artifact.name) for artifact in artifacts}
    total = _Total(sum(artifact.size for artifact in artifacts), progress)
    folder.mkdir(parents=True, exist_ok=True)

    files = [_Fetching(http, Link(each, listing), targets[each.name], patience_s, total) for each in artifacts]
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="fetch") as pool:
        try:
            fetching = [[pool.submit(job) for job in file.jobs(at_once=parallel > 1)] for file in files]
            for jobs in fetching:
                for job in jobs:
                    job.result()
            return [file.finish() for file in files]
        except BaseException:
            total.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


class _Total:
    """Adds up what the threads have."""

    def __init__(self, size: int, progress: Progress) -> None:
        self._size = size
        self._here = 0
        self._progress = progress
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        progress(0, size)

    def add(self, count: int) -> None:
        with self._lock:
            self._here += count
            self._progress(self._here, self._size)


class _Fetching:
    """One file, in ranges at once if it is large and the server knows them, else in one stream."""

    def __init__(self, http: httpx.Client, link: Link, target: Path, patience_s: float, total: _Total) -> None:
        self._http = http
        self._link = link
        self._target = target
        self._partial = target.with_name(f".{target.name}.part")
        self._patience_s = patience_s
        self._total = total
        self._digest: str | None = None
        self._ranged: Ranged | None = None

    def jobs(self, *, at_once: bool) -> list[Callable[[], None]]:
        """Return what is to be done, which may be done at once; nothing if the file is there already."""
        size = self._link.size
        if self._target.is_file() and self._target.stat().st_size == size:
            self._total.add(size)
            return []
        self._target.parent.mkdir(parents=True, exist_ok=True)
        journal = journal_of(self._partial)
        begun = self._partial.is_file() and not journal.is_file()  # in one stream, which goes on as one
        if at_once and size >= 2 * ranges.PIECE and not begun:
            self._ranged = Ranged(self._http, self._link, self._partial, self._patience_s, self._total)
            if self._ranged.begin():
                return self._ranged.jobs()
        self._ranged = None
        if journal.is_file():  # its holes are no beginning of a stream
            self._partial.unlink(missing_ok=True)
            journal.unlink()
        return [self._stream]

    def finish(self) -> Path:
        """Put the file where it belongs, now that all of it is here."""
        journal_of(self._partial).unlink(missing_ok=True)
        if self._partial.is_file():
            check_digest(self._partial, self._link.name, self._ranged.digest if self._ranged else self._digest)
            self._partial.replace(self._target)
        return self._target

    def _stream(self) -> None:
        if self._here() > self._link.size:  # of another version
            self._partial.unlink()
        self._partial.touch()
        self._total.add(self._here())
        persist(self._link, Patience(self._patience_s), self._more, self._here, self._link.size)

    def _here(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _more(self, url: str) -> None:
        here = self._here()
        with opened(self._http, url, {"Range": f"bytes={here}-"} if here else {}) as answer:
            self._digest = answer.headers.get("repr-digest")
            if here and answer.status_code != 206:  # no ranges here: from the start
                self._total.add(-here)
                here = 0
            with self._partial.open("r+b" if here else "wb") as stream:
                stream.seek(here)
                for block in answer.iter_bytes():
                    if self._total.stopped.is_set():
                        raise TransferFailed("Fetching was stopped.")
                    here += len(block)
                    if here > self._link.size:
                        self._partial.unlink(missing_ok=True)
                        raise TransferFailed(f"{self._link.name} is longer than the server says.", "Fetch it again.")
                    stream.write(block)
                    self._total.add(len(block))


def _target(folder: Path, name: str) -> Path:
    """Return where a file goes; a hostile server must not choose a place outside the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise TransferFailed(f"The server names a file {name!r}, which leads out of the folder.")
    return folder.joinpath(*parts)
